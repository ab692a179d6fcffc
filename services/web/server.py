"""uvicorn as a part of a node: the node decides when to end and provides TLS."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn

from services.identity.live import LiveConnections
from services.runtime.background import Background
from services.web.peer_certificate import PeerCertificateProtocol

GRACEFUL_STOP_S = 2
CONNECTIONS = 4096  # at once; further callers are told to come back later
HEAD_LIMIT_BYTES = 64 * 1024  # of a request: URL and headers


class NodeServer(uvicorn.Server):
    """Serves ``app`` over HTTPS until ``stop``; calls ``started`` when it does.

    Leaves signals to the node, and waits for ``stop`` instead of polling ten times a second.
    """

    def __init__(
        self,
        app: Any,
        context: ssl.SSLContext,
        stop: asyncio.Event,
        started: Callable[[], None],
        *,
        keep_alive_s: int,
        head_limit_bytes: int = HEAD_LIMIT_BYTES,
        connections: int = CONNECTIONS,
    ) -> None:
        self._live = LiveConnections()
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(PeerCertificateProtocol, self._live),  # type: ignore[arg-type]  # only called
                ssl_context_factory=lambda _config, _default: context,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,  # any caller could claim another address; docs/reverse-proxy.md
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=GRACEFUL_STOP_S,
                timeout_keep_alive=keep_alive_s,
                limit_concurrency=connections,
                h11_max_incomplete_event_size=head_limit_bytes,
            )
        )
        self._stop = stop
        self._on_started = started

    async def main_loop(self) -> None:
        self._on_started()
        background = Background("web")
        background.keep(self._live.run, "looking at connections again")
        await self._stop.wait()
        await background.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes connections of callers that do not: one whose body was refused may never read the answer."""
        await super().shutdown(sockets)
        if self.server_state.tasks:  # already cancelled
            await asyncio.wait(self.server_state.tasks, timeout=GRACEFUL_STOP_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
