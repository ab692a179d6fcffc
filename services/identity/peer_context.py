"""TLS contexts that know whom they trust, and who is at the other end of a connection made with one."""

import _ssl
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from services.errors import IdentityError
from services.identity.certificates import AnotherPeer, Expected, PeerIdentity, TrustBundle

Connection = ssl.SSLSocket | ssl.SSLObject


class PeerContext(ssl.SSLContext):
    """For connections, whether blocking or in an event loop.

    ``expected``: whom a client means to reach. ``trust``: what the other end is judged by; a client, and a server that
    is ``strict``, ends a handshake with whoever is refused; any other server refuses him in words, by ``peer_of``.
    """

    trust: TrustBundle
    expected: Expected | None = None
    strict = False


class _Socket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _check(self)


class _Object(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        _check(self)


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
    """Who is at the other end; None where it has shown no certificate.

    Raises IdentityError where it names nobody, NotOfOrganization.
    """
    der = connection.getpeercert(binary_form=True)
    if der is None:
        return None
    context = connection.context
    if not isinstance(context, PeerContext):
        raise TypeError("this connection was not made by an identity")
    return context.trust.peer(der, _shown_with(connection) if context.trust.organizations else ())


def judge_of(connection: Connection) -> Callable[[], object] | None:
    """Says again who is at the other end, from any thread, whatever another one does with the connection meanwhile.

    It raises what ``peer_of`` raises. None where that can never change.
    """
    context = connection.context
    if not isinstance(context, PeerContext) or context.trust.organizations is None:
        return None
    der = connection.getpeercert(binary_form=True)
    if der is None:
        return None
    return partial(context.trust.peer, der, _shown_with(connection))


def judge(connection: Connection) -> None:
    """Once, by the trust file, where there is one. Raises what ``peer_of`` raises."""
    if (again := judge_of(connection)) is not None:
        again()


def _check(connection: Connection) -> None:
    """Raises AnotherPeer."""
    context = connection.context
    if not isinstance(context, PeerContext) or (connection.server_side and not context.strict):
        return
    if context.trust.organizations:
        try:
            peer_of(connection)
        except IdentityError as error:
            raise AnotherPeer(error.message.format_map(error.facts)) from None
    if context.expected is not None:
        context.expected.check(connection.getpeercert(binary_form=True))


def _shown_with(connection: Any) -> tuple[bytes, ...]:
    """The certificates beside its own, in DER form. Python has a public name for this from 3.13 on."""
    if hasattr(connection, "get_unverified_chain"):
        return tuple(connection.get_unverified_chain()[1:])
    shown = connection._sslobj.get_unverified_chain() or ()
    return tuple(one.public_bytes(_ssl.ENCODING_DER) for one in shown[1:])
