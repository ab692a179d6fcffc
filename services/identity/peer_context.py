"""TLS contexts that know whom they trust and who is at the other end of their connections."""

import _ssl
import contextlib
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

from services.errors import IdentityError
from services.identity import organizations
from services.identity.peers import AnotherPeer, Expected, PeerIdentity, TrustBundle, identity_of_certificate

Connection = ssl.SSLSocket | ssl.SSLObject


class PeerContext(ssl.SSLContext):
    """A context for connections, blocking or in an event loop.

    ``expected``: whom a client wants to reach, or a strict server lets in. ``trust``: by which the other end is judged.
    A client, or a server that is ``strict``, ends the handshake with a refused peer; any other server refuses it later
    with a message, after ``peer_of``.
    """

    trust: TrustBundle
    expected: Expected | None = None
    strict = False


class _Judgement:
    """Judges the other end of a connection: at the handshake, and from time to time while data passes.

    A server ends its connections itself, including idle ones; see services.identity.live.
    """

    def __init__(self) -> None:
        self._again: Callable[[], object] | None = None
        self._made_at = 0.0

    def begin(self, connection: "_Socket | _Object") -> None:
        """Raises AnotherPeer."""
        _check(connection)
        if not connection.server_side:
            self._again, self._made_at = judge_of(connection), monotonic()

    def renew(self) -> None:
        """Raises AnotherPeer once the other end is no longer accepted."""
        if self._again is None or monotonic() - self._made_at < organizations.LOOK_EVERY_S:
            return
        self._made_at = monotonic()
        with _as_another_peer():
            self._again()


class _Socket(ssl.SSLSocket):
    _judgement = _Judgement()

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        self._judgement = _Judgement()
        self._judgement.begin(self)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002  # as in the class above it
        self._judgement.renew()
        return super().read(len, buffer)

    def send(self, data: Any, flags: int = 0) -> int:
        self._judgement.renew()
        return super().send(data, flags)


class _Object(ssl.SSLObject):
    _judgement = _Judgement()

    def do_handshake(self) -> None:
        super().do_handshake()
        self._judgement = _Judgement()
        self._judgement.begin(self)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002  # as in the class above it
        self._judgement.renew()
        return super().read(len, buffer)

    def write(self, data: Any) -> int:
        self._judgement.renew()
        return super().write(data)


PeerContext.sslsocket_class = _Socket
PeerContext.sslobject_class = _Object


def anonymous_context(trust: TrustBundle, expected: Expected) -> PeerContext:
    """TLS 1.3 for a client that shows no certificate."""
    context = PeerContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=trust.pem.decode("ascii"))
    context.trust, context.expected = trust, expected
    return context


def peer_of(connection: Connection) -> PeerIdentity | None:
    """Who is at the other end; None if it has shown no certificate.

    Raises IdentityError if the certificate names no node, NotOfOrganization.
    """
    der = connection.getpeercert(binary_form=True)
    if der is None:
        return None
    context = connection.context
    if not isinstance(context, PeerContext):
        raise TypeError("this connection was not made by an identity")
    return context.trust.peer(der, _shown_with(connection) if context.trust.organizations else ())


def judge_of(connection: Connection) -> Callable[[], object] | None:
    """A function that judges the other end again, in any thread, whatever others do with the connection meanwhile.

    It raises what ``peer_of`` raises. None if the verdict can never change.
    """
    context = connection.context
    if not isinstance(context, PeerContext):
        return None
    der = connection.getpeercert(binary_form=True)
    if der is None:
        return None
    if context.trust.organizations is None:
        try:
            identity_of_certificate(der)
        except IdentityError:  # it names no node, so it cannot be expelled
            return None
        return partial(context.trust.peer, der)
    return partial(context.trust.peer, der, _shown_with(connection))


def judge(connection: Connection) -> None:
    """Judges the other end once, by trust file and expulsions. Raises what ``peer_of`` raises."""
    if (again := judge_of(connection)) is not None:
        again()


def _check(connection: Connection) -> None:
    """Raises AnotherPeer."""
    context = connection.context
    if not isinstance(context, PeerContext) or (connection.server_side and not context.strict):
        return
    if context.trust.organizations or context.trust.expulsions:
        with _as_another_peer():
            peer_of(connection)
    if context.expected is not None:
        context.expected.check(connection.getpeercert(binary_form=True))


@contextlib.contextmanager
def _as_another_peer() -> Iterator[None]:
    """Turns our error into one that libraries treat as a TLS error."""
    try:
        yield
    except IdentityError as error:
        raise AnotherPeer(error.message.format_map(error.facts)) from None


def _shown_with(connection: Any) -> tuple[bytes, ...]:
    """The certificates shown beside its own, in DER form. From 3.13 on, Python has a public method for this."""
    if hasattr(connection, "get_unverified_chain"):
        return tuple(connection.get_unverified_chain()[1:])
    shown = connection._sslobj.get_unverified_chain() or ()
    return tuple(one.public_bytes(_ssl.ENCODING_DER) for one in shown[1:])
