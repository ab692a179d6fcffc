"""This node's own identity, and TLS with it for HTTPS and gRPC."""

import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.errors import IdentityError, NoIdentity, WrongRole
from services.identity.certificates import read_chain, read_key
from services.identity.handover import handovers_in
from services.identity.memory_files import InMemory
from services.identity.peer_context import PeerContext
from services.identity.peers import SPIFFE_ID, Expected, PeerIdentity, TrustBundle, identity_of_certificate, read_trust
from services.identity.renewal import Credentials, FollowingContext, Renewal
from services.identity.verification import check_chain, check_dates, check_key

if TYPE_CHECKING:
    import grpc

SLOT_KEY = "swarm-slot"
"""Of gRPC metadata and HTTP headers: the slot of its certificate in which the caller acts."""

PROCESS_KEY = "swarm-process"
"""Of gRPC metadata: which process calls, in hexadecimal."""

KNOWN_BY_KEY = "swarm-known-by"
"""Of gRPC metadata and HTTP headers: ``SPIFFE_ID`` where the caller is known by that and not by its key."""

__all__ = ["Identity", "PeerIdentity", "identity_of_certificate", "identity_of_grpc_context"]


@dataclass(frozen=True)
class Identity:
    """Role and name of this node, with the files that they come from. Built by ``load``.

    ``slot``: if several nodes share the certificate; then it is the last part of ``name``. ``process``: 16 random bytes
    that distinguish processes of the same name. ``handovers``: of the earlier keys, oldest first. ``renewal``: set if
    the certificate may change while the node runs; ``cert``, ``key``, ``trust``, ``fingerprint`` and ``handovers`` are
    the first ones then. ``known_by_id``: others know the node by its SPIFFE ID, and ``fingerprint`` is of that ID.
    ``organization``: whose CA issued the certificate; empty without a trust file. ``plain_key``: the decrypted key, if
    the one in the file is encrypted.
    """

    role: str
    name: str
    fingerprint: str
    cert: Path
    key: Path
    trust: TrustBundle
    slot: str = ""
    process: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    renewal: Renewal | None = None
    known_by_id: bool = False
    organization: str = ""
    plain_key: InMemory | None = field(default=None, compare=False, repr=False)
    handovers: tuple[bytes, ...] = ()

    @classmethod
    def load(
        cls,
        *,
        cert: Path | None,
        key: Path | None,
        key_passphrase_file: Path | None = None,
        cacert: Path | None = None,
        capath: Path | None = None,
        trust: Path | None = None,
        expected_role: str | None = None,
        slot: str = "",
    ) -> Self:
        """Reads certificate (with its chain), key and CAs, and judges them as a peer would.

        ``trust``: a trust file, instead of ``cacert`` and ``capath``. Raises NoIdentity, CertificateUnreadable,
        CertificateExpired, CertificateNotYetValid, KeyMismatch, CertificateUntrusted, TrustFileUnusable,
        NotOfOrganization, WrongRole, or IdentityError for any other problem.
        """
        cert, key = _given(cert, "--cert (SWARM_ID_CERT)"), _given(key, "--key (SWARM_ID_KEY)")
        _given(trust or cacert or capath, "--cacert (SWARM_ID_CACERT), --capath (SWARM_ID_CAPATH) or --trust")
        chain = read_chain(cert)
        check_dates(cert, chain)
        private_key = read_key(key, key_passphrase_file)
        check_key(cert, chain[0], key, private_key)
        peer = _identity_in(cert, chain[0])
        bundle = read_trust(cacert, capath, trust)
        handovers = handovers_in(key.read_bytes())
        plain = _in_memory(private_key) if key_passphrase_file is not None else None
        identity = cls(peer.role, peer.name, peer.fingerprint, cert, key, bundle, handovers=handovers, plain_key=plain)
        anyone = replace(identity, trust=replace(bundle, organizations=None))  # so that each fault gets its own error
        client = anyone.client_context()
        client.check_hostname = False  # the node tests itself; for peers the host name is checked
        check_chain(cert, chain[0], bundle, anyone.server_context(), client)
        own, *others = (one.public_bytes(Encoding.DER) for one in chain)
        organization = bundle.peer(own, tuple(others)).organization
        if expected_role is not None and peer.role != expected_role:
            action = f"this command (certificate {cert})"
            raise WrongRole(name=peer.name, role=peer.role, action=action, needed=expected_role)
        return replace(identity, name=peer.in_slot(slot).name, slot=slot, organization=organization)

    @property
    def spiffe_id(self) -> str:
        """The SPIFFE ID in its certificate."""
        cert = self.credentials.cert
        return _identity_in(cert, read_chain(cert)[0]).spiffe_id

    @property
    def known_as(self) -> str:
        """Hex SHA-256 by which others know the node now: of its public key, or of its SPIFFE ID."""
        return self.fingerprint if self.known_by_id else self.credentials.key_fingerprint

    @property
    def credentials(self) -> Credentials:
        """The credentials for new connections."""
        if self.renewal is not None:
            return self.renewal.current
        key = self.plain_key.path if self.plain_key is not None else self.key
        return Credentials(self.cert, key, self.trust, self.fingerprint, self.handovers)

    @property
    def copied(self) -> Credentials:
        """The same, copied into memory: the files may be replaced one by one at any moment."""
        now = self.credentials
        cert, key = InMemory(now.cert.read_bytes()), InMemory(now.key.read_bytes())
        return replace(now, cert=cert.path, key=key.path, kept=(cert, key))

    def renewed_by(self, renewal: Renewal, *, known_by_id: bool) -> Self:
        """The same identity, with a certificate that may change while the node runs."""
        if not known_by_id:
            return replace(self, renewal=renewal)
        peer = _identity_in(self.cert, read_chain(self.cert)[0])
        return replace(self, fingerprint=peer.id_fingerprint, renewal=renewal, known_by_id=True)

    @property
    def said_of_itself(self) -> tuple[tuple[str, str], ...]:
        """What the node says beside its certificate, as gRPC metadata or HTTP headers."""
        slot = ((SLOT_KEY, self.slot),) if self.slot else ()
        return (*slot, (KNOWN_BY_KEY, SPIFFE_ID)) if self.known_by_id else slot

    def server_context(
        self,
        *,
        client_certificate: Literal["required", "optional"] = "required",
        strict: bool = False,
        expected: Expected | None = None,
    ) -> ssl.SSLContext:
        """TLS 1.3 for a listening socket. If a client shows a certificate, it is always verified.

        A server asks ``peer_context.peer_of`` who calls; that follows the trust file. ``strict``: the handshake itself
        fails for peers refused there, and for any that is not ``expected``.
        """

        def make(kind: type[ssl.SSLContext] = PeerContext) -> ssl.SSLContext:
            context = kind(ssl.PROTOCOL_TLS_SERVER)
            context.verify_mode = ssl.CERT_REQUIRED if client_certificate == "required" else ssl.CERT_OPTIONAL
            if isinstance(context, PeerContext):
                context.strict, context.expected = strict, expected
            return self._equipped(context)

        return self._followed(make)

    def client_context(self, expected: Expected | None = None) -> ssl.SSLContext:
        """TLS 1.3 for outgoing connections; the peer's chain, organization and host name are verified.

        ``expected``: whom the connection is for. A handshake with any other peer fails with AnotherPeer.
        """

        def make(kind: type[ssl.SSLContext] = PeerContext) -> ssl.SSLContext:
            context = kind(ssl.PROTOCOL_TLS_CLIENT)
            if isinstance(context, PeerContext):
                context.expected = expected
            return self._equipped(context)

        return self._followed(make)

    def grpc_server_credentials(self) -> "grpc.ServerCredentials":
        """TLS 1.3 with a required client certificate."""
        from services.identity import grpc_tls  # noqa: PLC0415  # grpc is heavy; few need it

        if self.renewal is not None:
            return grpc_tls.renewed_server_credentials(self.renewal)
        now = self.credentials
        return grpc_tls.server_credentials(now.key.read_bytes(), now.cert.read_bytes(), now.trust.pem)

    def peer_of_grpc(self, context: Any) -> PeerIdentity:
        """The peer of a gRPC call, from its servicer context: by its certificate, and its slot if it names one.

        Raises IdentityError if the certificate names no node, NotOfOrganization.
        """
        return self.caller_of_grpc(context)()

    def caller_of_grpc(self, context: Any) -> Callable[[], PeerIdentity]:
        """The same as a function that may be called repeatedly, even after the call; raises what ``peer_of_grpc``
        raises.
        """
        shown = _presented_by(context)
        return lambda: _identity_presented(shown, self.credentials.trust)

    def _followed(self, make: Callable[..., ssl.SSLContext]) -> ssl.SSLContext:
        if self.renewal is None:
            return make()
        context = make(FollowingContext)
        if isinstance(context, FollowingContext):
            context.follow(self.renewal, make)
        return context

    def _equipped(self, context: ssl.SSLContext) -> ssl.SSLContext:
        now = self.credentials
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if isinstance(context, PeerContext):
            context.trust = now.trust
        try:
            context.load_cert_chain(now.cert, now.key, password=_no_passphrase)
        except OSError as error:  # also ssl.SSLError, for example if a key is too short for OpenSSL's security level
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            raise IdentityError(path=now.cert, problem=str(reason).lower().replace("_", " ")) from None
        context.load_verify_locations(cadata=now.trust.pem.decode("ascii"))
        return context


def identity_of_grpc_context(context: Any, trust: TrustBundle | None = None) -> PeerIdentity:
    """The same; without ``trust``, any peer that TLS has verified may have any identity."""
    return _identity_presented(_presented_by(context), trust)


@dataclass(frozen=True)
class _PresentedIdentity:
    """What the caller of a gRPC call has shown. ``certificates``: gRPC's authentication context."""

    certificates: Mapping[str, Sequence[bytes]]
    said: Mapping[str, Any]


def _presented_by(context: Any) -> _PresentedIdentity:
    """Must be read during the call: after its end, gRPC may read freed memory."""
    return _PresentedIdentity(dict(context.auth_context()), dict(reversed(tuple(context.invocation_metadata() or ()))))


def _identity_presented(shown: _PresentedIdentity, trust: TrustBundle | None) -> PeerIdentity:
    presented = shown.certificates.get("x509_pem_cert")
    if not presented:
        raise IdentityError(path="certificate of the peer", problem="none was presented")
    if trust is None:
        peer = _identity_in_pem(presented[0])
    elif trust.organizations is None:
        peer = trust.peer(_ders(presented[0])[0])
    else:
        der = _ders(presented[0])[0]
        chain = _ders(b"".join(shown.certificates.get("x509_pem_cert_chain", ())))  # with its own, or without
        peer = trust.peer(der, tuple(one for one in chain if one != der))
    return peer.known_by(shown.said.get(KNOWN_BY_KEY, "")).in_slot(shown.said.get(SLOT_KEY, ""))


@lru_cache(maxsize=1024)
def _identity_in_pem(presented: bytes) -> PeerIdentity:
    """Who a certificate says its holder is. Whether it is trusted is not checked here, as that changes with time."""
    return identity_of_certificate(x509.load_pem_x509_certificate(presented).public_bytes(Encoding.DER))


@lru_cache(maxsize=1024)
def _ders(pem: bytes) -> tuple[bytes, ...]:
    """The certificates in DER form; kept, as every call of a peer shows the same ones."""
    found = x509.load_pem_x509_certificates(pem) if pem else ()
    return tuple(one.public_bytes(Encoding.DER) for one in found)


def _given(path: Path | None, option: str) -> Path:
    if path is None:
        raise NoIdentity(missing=option)
    return path


def _identity_in(path: Path, certificate: x509.Certificate) -> PeerIdentity:
    try:
        return identity_of_certificate(certificate.public_bytes(Encoding.DER))
    except IdentityError as error:
        raise IdentityError(path=path, problem=error.facts["problem"]) from None


def _in_memory(key: PrivateKeyTypes) -> InMemory:
    """The key without encryption, as libraries want it; it never reaches a disk."""
    return InMemory(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _no_passphrase() -> str:
    """Keeps OpenSSL from asking on the terminal."""
    return ""
