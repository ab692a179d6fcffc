"""This node's own identity, and what TLS makes of it for HTTPS and gRPC."""

import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from services.errors import IdentityError, NoIdentity, WrongRole
from services.identity.certificates import (
    SPIFFE_ID,
    Expected,
    PeerIdentity,
    TrustBundle,
    identity_of_certificate,
    read_chain,
    read_key,
    read_trust,
)
from services.identity.renewal import Credentials, FollowingContext, Renewal
from services.identity.verification import check_chain, check_dates, check_key

if TYPE_CHECKING:
    import grpc

SLOT_KEY = "swarm-slot"
"""Of gRPC metadata and HTTP headers: the slot of its certificate in which the caller acts."""

PROCESS_KEY = "swarm-process"
"""Of gRPC metadata: which process calls, in hexadecimal."""

KNOWN_BY_KEY = "swarm-known-by"
"""Of gRPC metadata and HTTP headers: ``SPIFFE_ID`` where the caller is known by that and not by its certificate."""

# Certificates whose content is remembered: each call of a peer presents the same one.
KNOWN_CERTIFICATES = 1024

__all__ = ["Identity", "PeerIdentity", "identity_of_certificate", "identity_of_grpc_context"]


class _CheckedContext(ssl.SSLContext):
    """For connections to one peer, whether blocking or in an event loop."""

    expected: Expected


class _CheckedSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _check(self.context, self.getpeercert(binary_form=True))


class _CheckedObject(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        _check(self.context, self.getpeercert(binary_form=True))


_CheckedContext.sslsocket_class = _CheckedSocket
_CheckedContext.sslobject_class = _CheckedObject


def _check(context: ssl.SSLContext, der: bytes | None) -> None:
    if isinstance(context, _CheckedContext):
        context.expected.check(der)


@dataclass(frozen=True)
class Identity:
    """Role and name of this node, with the files they come from. Build it with ``load``.

    ``slot``: of the certificate, where several nodes share it; it is the last part of ``name`` then. ``process``: 16
    random bytes, by which two processes that have the same name are told apart. ``renewal``: where the certificate
    changes while the node runs; ``cert``, ``key`` and ``trust`` are the first ones, and ``fingerprint`` is of its ID.
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

    @classmethod
    def load(
        cls,
        *,
        cert: Path | None,
        key: Path | None,
        cacert: Path | None = None,
        capath: Path | None = None,
        expected_role: str | None = None,
        slot: str = "",
    ) -> Self:
        """Reads and judges certificate (with its chain), key and CAs, as a peer would judge them.

        Raises NoIdentity, CertificateUnreadable, CertificateExpired, CertificateNotYetValid, KeyMismatch,
        CertificateUntrusted, WrongRole, or IdentityError for what has no class of its own.
        """
        cert, key = _given(cert, "--cert (SWARM_ID_CERT)"), _given(key, "--key (SWARM_ID_KEY)")
        _given(cacert or capath, "--cacert (SWARM_ID_CACERT) or --capath (SWARM_ID_CAPATH)")
        chain = read_chain(cert)
        check_dates(cert, chain)
        check_key(cert, chain[0], key, read_key(key))
        peer = _identity_in(cert, chain[0])
        trust = read_trust(cacert, capath)
        identity = cls(peer.role, peer.name, peer.fingerprint, cert, key, trust)
        client = identity.client_context()
        client.check_hostname = False  # against itself; peers are checked by name
        check_chain(cert, chain[0], trust, identity.server_context(), client)
        if expected_role is not None and peer.role != expected_role:
            action = f"this command (certificate {cert})"
            raise WrongRole(name=peer.name, role=peer.role, action=action, needed=expected_role)
        return replace(identity, name=peer.in_slot(slot).name, slot=slot)

    @property
    def credentials(self) -> Credentials:
        """What new connections are made with now."""
        return self.renewal.current if self.renewal else Credentials(self.cert, self.key, self.trust)

    def renewed_by(self, renewal: Renewal) -> Self:
        """The same, whose certificate changes while it runs: others know it by its SPIFFE ID."""
        peer = _identity_in(self.cert, read_chain(self.cert)[0])
        return replace(self, fingerprint=peer.id_fingerprint, renewal=renewal)

    @property
    def said_of_itself(self) -> tuple[tuple[str, str], ...]:
        """What it tells beside its certificate, as gRPC metadata or HTTP headers."""
        slot = ((SLOT_KEY, self.slot),) if self.slot else ()
        return (*slot, (KNOWN_BY_KEY, SPIFFE_ID)) if self.renewal else slot

    def server_context(self, *, client_certificate: Literal["required", "optional"] = "required") -> ssl.SSLContext:
        """TLS 1.3 for a listening socket. A client certificate that is given is always verified."""

        def make(kind: type[ssl.SSLContext] = ssl.SSLContext) -> ssl.SSLContext:
            context = kind(ssl.PROTOCOL_TLS_SERVER)
            context.verify_mode = ssl.CERT_REQUIRED if client_certificate == "required" else ssl.CERT_OPTIONAL
            return self._equipped(context)

        return self._followed(make)

    def client_context(self, expected: Expected | None = None) -> ssl.SSLContext:
        """TLS 1.3 for outgoing connections; the peer's chain and host name are verified.

        ``expected``: whom it is for. A handshake with anybody else fails with AnotherPeer.
        """

        def make(kind: type[ssl.SSLContext] = ssl.SSLContext) -> ssl.SSLContext:
            if expected is None or kind is FollowingContext:
                return self._equipped(kind(ssl.PROTOCOL_TLS_CLIENT))
            checked = _CheckedContext(ssl.PROTOCOL_TLS_CLIENT)
            checked.expected = expected
            return self._equipped(checked)

        return self._followed(make)

    def grpc_server_credentials(self) -> "grpc.ServerCredentials":
        """TLS 1.3, a client certificate is required."""
        from services.identity import grpc_tls  # noqa: PLC0415  # grpc is heavy; few need it

        if self.renewal is not None:
            return grpc_tls.renewed_server_credentials(self.renewal)
        return grpc_tls.server_credentials(self.key.read_bytes(), self.cert.read_bytes(), self.trust.pem)

    def grpc_channel_credentials(self) -> "grpc.ChannelCredentials":
        """TLS 1.3, the peer's chain and host name are verified."""
        from services.identity.grpc_tls import channel_credentials  # noqa: PLC0415  # as above

        now = self.credentials
        return channel_credentials(now.key.read_bytes(), now.cert.read_bytes(), now.trust.pem)

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
        try:
            context.load_cert_chain(now.cert, now.key, password=_no_passphrase)
        except OSError as error:  # ssl.SSLError too: for example a key too short for OpenSSL's security level
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            raise IdentityError(path=now.cert, problem=str(reason).lower().replace("_", " ")) from None
        context.load_verify_locations(cadata=now.trust.pem.decode("ascii"))
        return context


def identity_of_grpc_context(context: Any) -> PeerIdentity:
    """The peer of a gRPC call, from its servicer context: certificate, and slot where it names one.

    Raises IdentityError.
    """
    presented = context.auth_context().get("x509_pem_cert")
    if not presented:
        raise IdentityError(path="certificate of the peer", problem="none was presented")
    said = dict(reversed(tuple(context.invocation_metadata() or ())))
    peer = _identity_in_pem(presented[0])
    return peer.known_by(said.get(KNOWN_BY_KEY, "")).in_slot(said.get(SLOT_KEY, ""))


@lru_cache(maxsize=KNOWN_CERTIFICATES)
def _identity_in_pem(presented: bytes) -> PeerIdentity:
    """What a certificate says. Whether it is trusted is not asked here: that changes with time."""
    return identity_of_certificate(x509.load_pem_x509_certificate(presented).public_bytes(Encoding.DER))


def _given(path: Path | None, option: str) -> Path:
    if path is None:
        raise NoIdentity(missing=option)
    return path


def _identity_in(path: Path, certificate: x509.Certificate) -> PeerIdentity:
    try:
        return identity_of_certificate(certificate.public_bytes(Encoding.DER))
    except IdentityError as error:
        raise IdentityError(path=path, problem=error.facts["problem"]) from None


def _no_passphrase() -> str:
    """Instead of OpenSSL asking on the terminal."""
    return ""
