"""Who a peer is, by its certificate: its node, the CA that vouches for it, and whether it is the expected one."""

import hashlib
import ssl
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from time import time
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from services.errors import IdentityError, NotOfOrganization, PeerCertificateExpired
from services.identity.certificates import (
    as_pem,
    certificates_in,
    key_fingerprint,
    read_certificates,
    spiffe_uris,
    time_in_words,
)
from services.identity.expulsions import Expulsions
from services.identity.organizations import Organizations, issuer_of
from services.identity.spiffe import SCHEME, SpiffeId, name_in_slot

SPIFFE_ID = "spiffe-id"
"""What a node says that others know it by, where its key changes while it runs."""


@dataclass(frozen=True)
class PeerIdentity:
    """The identity that a certificate states. ``fingerprint``: of its public key (``key_fingerprint``).

    ``name``: that in the certificate, or ``<name>/<slot>`` if the holder acts in one of its slots.
    ``id_fingerprint``: hex SHA-256 of the certificate's SPIFFE ID, the same in every certificate of this holder.
    ``organization``: whose CA issued it; '' without a trust file. ``ca``: the fingerprint of that CA's public key.
    ``certificate_ends``: seconds since 1970, UTC.
    """

    role: str
    name: str
    fingerprint: str
    id_fingerprint: str = field(default="", compare=False, repr=False)
    trust_domain: str = field(default="", compare=False, repr=False)
    organization: str = field(default="", compare=False, repr=False)
    certificate_ends: float = field(default=0.0, compare=False, repr=False)
    ca: str = field(default="", compare=False, repr=False)

    def known_by(self, what: str) -> Self:
        """The same peer, known by its SPIFFE ID if ``what`` says so, else by its key."""
        return replace(self, fingerprint=self.id_fingerprint) if what == SPIFFE_ID else self

    @property
    def is_known_by_id(self) -> bool:
        """Whether it is known by its SPIFFE ID, because its key and certificate are replaced from time to time."""
        return self.fingerprint == self.id_fingerprint

    def in_slot(self, slot: str) -> Self:
        """The same peer, acting in a slot; an empty slot means none. Raises IdentityError."""
        if not slot:
            return self
        try:
            return replace(self, name=name_in_slot(self.role, self.name, slot))
        except ValueError as error:
            raise IdentityError(path=f"slot of {self.name}", problem=str(error)) from None

    @property
    def spiffe_id(self) -> str:
        """The SPIFFE ID in its certificate, without the slot."""
        return f"{SCHEME}{self.trust_domain}/{self.role}/{self.name.partition('/')[0]}"

    def may_act_as(self, name: str, *keys: str) -> bool:
        """Whether this peer may act as the node of its role with this name, known by one of ``keys`` (or IDs)."""
        known = not {self.fingerprint, self.id_fingerprint}.isdisjoint(keys)
        return known and (name == self.name or name.startswith(f"{self.name}/"))


@dataclass(frozen=True)
class Expected:
    """The peer that a connection should reach, as far as known. Without ``name`` or ``keys``, any will do."""

    role: str
    name: str = ""
    keys: tuple[str, ...] = ()

    def check(self, der: bytes | None) -> None:
        """Checks the other end's certificate, which TLS has verified. Raises AnotherPeer with the reason."""
        if der is None:
            raise AnotherPeer("it has shown no certificate")
        try:
            peer = identity_of_certificate(der)
        except IdentityError as error:
            raise AnotherPeer(f"its certificate names nobody: {error.facts['problem']}") from None
        name, keys = self.name or peer.name, self.keys or (peer.fingerprint,)
        if peer.role != self.role or not peer.may_act_as(name, *keys):
            found, wanted = f"{peer.role} {peer.name}", f"{self.role} {self.name}".rstrip()
            another = "with another key than it is known by" if found == wanted else f"not of {wanted}"
            raise AnotherPeer(f"its certificate is that of {found}, {another}")


class AnotherPeer(ssl.SSLCertVerificationError):
    """Another peer than expected answers, with a valid certificate."""

    verify_code = 0

    def __init__(self, problem: str) -> None:
        super().__init__(1, problem)
        self.verify_message = problem

    def __str__(self) -> str:
        return self.verify_message


@dataclass(frozen=True)
class TrustBundle:
    """The CAs that this node trusts. ``source``: their file or directory, as the user gave it.

    ``organizations``: whose CAs these are and what they may issue; if None, all are one organization that may issue
    anything. ``expulsions``: as far as this node has heard of them.
    """

    source: str
    certificates: tuple[x509.Certificate, ...]
    organizations: Organizations | None = field(default=None, compare=False, repr=False)
    expulsions: Expulsions = field(default_factory=Expulsions, compare=False, repr=False)

    @property
    def pem(self) -> bytes:
        return as_pem(self.certificates)

    def require_own(self, organization: str, role: str, name: str) -> None:
        """Raises NotOfOrganization if this organization may not name such a node; without a trust file, it may."""
        members = self.organizations.members if self.organizations else ()
        if members and not any(one.name == organization and one.may_name(role, name) for one in members):
            raise NotOfOrganization(
                organization=organization, role=role, name=name, problem="it is not one of its nodes"
            )

    def has_issued(self, der: bytes, others: tuple[bytes, ...]) -> bool:
        """Whether a certificate that no TLS handshake has verified comes from one of these CAs. ``others``: as for
        ``peer``, which has checked this already if there is a trust file.
        """
        return self.organizations is not None or issuer_of(der, others, self.certificates) is not None

    def peer(self, der: bytes, others: tuple[bytes, ...] = ()) -> PeerIdentity:
        """The holder of a certificate that TLS verified when the connection was made. ``others``: certificates shown
        with it (DER).

        Raises IdentityError if it names no node, NotOfOrganization if its organization may not name it, Expelled,
        PeerCertificateExpired.
        """
        peer = identity_of_certificate(der)
        self.expulsions.check(peer.role, peer.name)
        if peer.certificate_ends < time():
            when = time_in_words(datetime.fromtimestamp(peer.certificate_ends, UTC))
            raise PeerCertificateExpired(role=peer.role, name=peer.name, when=when)
        if self.organizations is None:
            return peer
        owner, ca = self.organizations.owner((peer.trust_domain, peer.role, peer.name), der, others)
        self.expulsions.check(peer.role, peer.name, owner)
        return replace(peer, organization=owner, ca=_key_fingerprint_kept(ca))


@lru_cache(maxsize=4096)
def identity_of_certificate(der: bytes) -> PeerIdentity:
    """Role and name from the SPIFFE URI of a certificate in DER form.

    Raises IdentityError if the bytes are not a certificate, or it does not have exactly one such URI.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = spiffe_uris(certificate)
        if len(names) != 1:
            raise ValueError(f"it holds {len(names)} URIs of the form {SCHEME}<trust-domain>/<role>/<name>, not one")
        spiffe_id = SpiffeId.parse(names[0])
        fingerprint = key_fingerprint(certificate)
        ends = certificate.not_valid_after_utc.timestamp()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension) as error:
        raise IdentityError(path="certificate of the peer", problem=str(error)) from None
    by_id = hashlib.sha256(names[0].encode()).hexdigest()
    return PeerIdentity(
        spiffe_id.role, spiffe_id.name, fingerprint, by_id, spiffe_id.trust_domain, certificate_ends=ends
    )


_key_fingerprint_kept = lru_cache(maxsize=1024)(key_fingerprint)  # of CAs: needed for each call


def read_trust(cacert: Path | None, capath: Path | None, trust: Path | None = None) -> TrustBundle:
    """The CAs in a bundle file and in all PEM files of a directory; or only those of a trust file, if given.

    Raises CertificateUnreadable, TrustFileUnusable.
    """
    if trust is not None:
        from services.identity.trust_file import read_trust_file  # noqa: PLC0415  # YAML, for those who use it

        members = read_trust_file(trust)
        cas = dict.fromkeys(ca for one in members for ca in one.cas)
        return TrustBundle(str(trust), tuple(cas), Organizations(members))
    found: list[x509.Certificate] = []
    if cacert is not None:
        found.extend(read_certificates(cacert))
    if capath is not None:
        found.extend(certificates_in(capath))
    source = " and ".join(str(path) for path in (cacert, capath) if path is not None)
    return TrustBundle(source=source, certificates=tuple(dict.fromkeys(found)))
