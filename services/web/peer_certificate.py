"""Gives an ASGI application the caller's certificate, which uvicorn does not pass on."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.errors import IdentityError, NoIdentity
from services.identity.live import Judge, LiveConnections
from services.identity.peer_context import judge_of, peer_of
from services.identity.peers import PeerIdentity

# Limits for the head of a request, the next piece of its body, and the whole body. Slower callers are cut off.
HEAD_WITHIN_S = 20.0
PIECE_WITHIN_S = 30.0
BODY_WITHIN_S = 600.0

_STATE = "peer_connection"


class PeerCertificateProtocol(H11Protocol):
    """HTTP/1.1 over TLS; each request's ``state`` holds its TLS connection. ``live``: registers the connection.

    The state comes from the connection, so callers cannot forge it.
    """

    _late: asyncio.TimerHandle | None = None
    _body_until = 0.0

    def __init__(self, live: LiveConnections, **given: Any) -> None:
        super().__init__(**given)
        self._live = live
        self._until_lost = contextlib.ExitStack()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        tls = transport.get_extra_info("ssl_object")
        self.app_state = {**self.app_state, _STATE: tls}
        judge = None if tls is None else judge_of(tls)
        if judge is not None and _is_accepted(judge):  # others get an error in words
            self._until_lost.enter_context(self._live.held(judge, lambda _: transport.abort()))
        super().connection_made(transport)
        self._allow(HEAD_WITHIN_S)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        state = self.conn.their_state
        if state is h11.IDLE and self.conn.trailing_data[0]:
            if self._late is None:
                self._allow(HEAD_WITHIN_S)
        elif state is h11.SEND_BODY:
            now = self.loop.time()
            self._body_until = self._body_until or now + BODY_WITHIN_S
            self._allow(min(PIECE_WITHIN_S, self._body_until - now))
        else:
            self._body_until = 0.0
            self._allow(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._allow(None)
        self._until_lost.close()
        super().connection_lost(exc)

    def _allow(self, seconds: float | None) -> None:
        """Sets the time for what the caller must still send; None: nothing."""
        if self._late is not None:
            self._late.cancel()
        self._late = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


def _is_accepted(judge: Judge) -> bool:
    try:
        judge()
    except IdentityError:
        return False
    return True


def certificate_of(scope: Mapping[str, Any]) -> bytes | None:
    """The caller's certificate (DER), verified in the handshake; None if it showed none."""
    tls = scope.get("state", {}).get(_STATE)
    certificate: bytes | None = None if tls is None else tls.getpeercert(binary_form=True)
    return certificate


def peer_in(scope: Mapping[str, Any]) -> PeerIdentity:
    """The caller. Raises NoIdentity without a certificate, IdentityError if it names nobody, NotOfOrganization."""
    tls = scope.get("state", {}).get(_STATE)
    peer = None if tls is None else peer_of(tls)
    if peer is None:
        raise NoIdentity(missing="a client certificate")
    return peer
