"""Organizations that share a swarm: which nodes each CA may name, and which organization a certificate is from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from time import monotonic

from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from services.errors import NotOfOrganization
from services.identity.revocations import RevocationList

# TLS allows chains of any length; no real chain has more certificates than this.
CHAIN_CERTIFICATES = 8
_KNOWN = 1024  # certificates with a kept verdict; each is a peer's, so there are not many
_SHOWN_PATTERNS = 3

ORGANIZATION_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
MOST_CAS = 64  # of an organization
# A changed revocation list takes effect within this time.
LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Organization:
    """``issues``: patterns of the names that its CAs may give, by role, with ``*`` for any characters.

    ``revoked``: its revocation lists.
    """

    name: str
    trust_domain: str
    cas: tuple[x509.Certificate, ...]
    issues: Mapping[str, tuple[str, ...]]
    revoked: tuple[RevocationList, ...] = ()

    def may_name(self, role: str, name: str) -> bool:
        """Whether a node of this role may have this name."""
        return any(fnmatchcase(name, pattern) for pattern in self.issues.get(role, ()))

    def issuer(self, certificate: x509.Certificate, others: Sequence[x509.Certificate]) -> x509.Certificate | None:
        """Its own CA in which the chain of trust ends, if any. ``others``: certificates shown with this one."""
        return _issuer(certificate, others, self.cas)


class Organizations:
    """All organizations that a node trusts. Verdicts are kept, as a peer shows the same certificate with every call."""

    def __init__(self, members: Sequence[Organization]) -> None:
        self.members = tuple(members)
        self._lists = [one for member in members for one in member.revoked]
        self._looked_at = monotonic()
        self._known: dict[tuple[bytes, tuple[bytes, ...]], tuple[str, x509.Certificate] | NotOfOrganization] = {}

    def owner(self, who: tuple[str, str, str], der: bytes, others: tuple[bytes, ...]) -> tuple[str, x509.Certificate]:
        """The organization of a certificate's holder, and its CA in which the chain of trust ends. ``who``: trust
        domain, role and name in the certificate. ``der``: the certificate, which TLS has verified against all CAs;
        ``others``: those shown with it.

        Raises NotOfOrganization with the reason.
        """
        self._look()
        known = self._known  # valid for the current lists; another thread may reload them
        found = known.get((der, others))
        if found is None:
            try:
                found = self._find(*who, x509.load_der_x509_certificate(der), _loaded(others))
            except NotOfOrganization as refusal:
                found = refusal
            if len(known) >= _KNOWN:
                known.clear()
            known[der, others] = found
        if isinstance(found, NotOfOrganization):
            raise NotOfOrganization(**found.facts)
        return found

    def _look(self) -> None:
        if not self._lists or monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self.look()

    def look(self) -> None:
        """Reads revocation lists that have changed."""
        self._looked_at = monotonic()
        changed = [one.look() for one in self._lists]
        if any(changed):
            self._known = {}

    def _find(
        self, domain: str, role: str, name: str, certificate: x509.Certificate, others: list[x509.Certificate]
    ) -> tuple[str, x509.Certificate]:
        def refused(organization: str, problem: str) -> NotOfOrganization:
            return NotOfOrganization(organization=organization, role=role, name=name, problem=problem)

        named = [one for one in self.members if one.trust_domain == domain]
        if not named:
            raise refused(domain, "no organization has this trust domain")
        cas = [(one, ca) for one in named if (ca := one.issuer(certificate, others)) is not None]
        issuers = [one for one, _ in cas]
        if not issuers:
            names = _listed([one.name for one in named])
            true = [one.name for one in self.members if one not in named and one.issuer(certificate, others)]
            by = f"; it comes from a CA of {_listed(true)}" if true else ""
            raise refused(names, f"none of its own CAs has issued it{by}")
        for one in issuers:
            if any(found.holds(it) for found in one.revoked for it in (certificate, *others)):
                raise refused(one.name, "it is revoked")
        allowed = [one for one in issuers if one.issues.get(role)]
        if not allowed:
            raise refused(_listed([one.name for one in issuers]), f"it may not issue the role {role}")
        for one, ca in cas:
            if one.may_name(role, name):
                return one.name, ca
        patterns = [pattern for one in allowed for pattern in one.issues[role]]
        problem = f"it may not give this name; of the role {role} it may give {_listed(patterns)}"
        raise refused(_listed([one.name for one in allowed]), problem)


def issuer_of(der: bytes, others: Sequence[bytes], cas: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The CA among ``cas`` in which a certificate's chain of trust ends, if any. ``der``, ``others``: in DER form."""
    return _issuer(x509.load_der_x509_certificate(der), _loaded(others), cas)


def _issuer(
    certificate: x509.Certificate, others: Sequence[x509.Certificate], cas: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    verifier = (
        PolicyBuilder()
        .store(Store(list(cas)))
        .extension_policies(ca_policy=_CA_POLICY, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        return verifier.verify(certificate, list(others)).chain[-1]
    except VerificationError:
        return None


def _must_be_a_ca(_policy: Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("it is not a CA")


def _may_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("it may not sign certificates")


# TLS has already judged usages and the like: they are not judged again by rules stricter than OpenSSL's.
_CA_POLICY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _must_be_a_ca)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
)


def _loaded(others: Sequence[bytes]) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(one) for one in others[:CHAIN_CERTIFICATES]]


def _listed(words: Sequence[str]) -> str:
    words = list(dict.fromkeys(words))
    more = len(words) - _SHOWN_PATTERNS
    return ", ".join(words[:_SHOWN_PATTERNS]) + (f" and {more} more" if more > 0 else "")
