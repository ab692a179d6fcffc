"""Serves parameter streams to the other participants: HTTPS with mutual TLS, by digest, whole or in ranges."""

import asyncio
import base64
import contextlib
import errno
import os
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import BinaryIO

from aiohttp import web

from services.errors import IdentityError, NetworkError, NotOfOrganization, PortInUse, SwarmError
from services.identity.identity import Identity, PeerIdentity
from services.identity.live import LiveConnections
from services.identity.peer_context import peer_of
from services.rpc.swarm_pb2 import ResultCopy
from services.runtime import logs
from services.runtime.background import Background
from services.runtime.http_log import server_log
from services.runtime.probing import probe
from services.sl.round.progress import MergeProgress
from services.sl.sharding.messages import MESSAGE_BYTES
from services.sl.transfer.bulk import Bulk
from services.sl.transfer.connections import BULK
from services.sl.transfer.listener import AlpnListener
from services.sl.transfer.partials import Partial, PartialEnded
from services.sl.transfer.peers import COPY_MOVES, COPY_TAKEN, REFUSAL_HEADER, WORDS_BYTES
from services.sl.transfer.readers import CATCH_UP_S, REFUSAL, Readers
from services.sl.transfer.store import Store, Stored

PIECE_BYTES = 1024 * 1024

# A reader that takes less than one piece in this time is cut off; even a slow link moves far more.
STALL_S = 60.0

# Connections stay open between rounds, which may be far apart.
KEEP_ALIVE_S = 3600.0

# A peer that merges reads a few pieces at a time, never as many as this.
REQUESTS_PER_PEER = 16

_DRAFT = re.compile(r"[0-9]+-[0-9]+-[0-9]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")

# Connections that are not accepted yet: all participants may connect at the same moment.
WAITING = 4096

# Seconds between signs of progress of a node that takes a copy: short enough for the shortest stall time.
SIGN_EVERY_S = 0.25

Follow = Callable[[PeerIdentity, web.WebSocketResponse], Awaitable[object]]
TakeCopy = Callable[[PeerIdentity, str, Callable[[int], None]], Awaitable[ResultCopy]]
_log = logs.get("file server")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 means any free port. Raises PortInUse, NetworkError."""
    host = host.strip("[]")
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(WAITING)
        probe(bound)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(port=port, host=host, option="--sl-fs-port") from None
        raise NetworkError(peer="The file server", address=f"{host}:{port}", problem=str(error.strerror)) from None
    return bound


class FileServer:
    """``readers`` decide about each request. ``sent`` gets the number of bytes sent.

    ``take_copy(peer, digest, moved)`` fetches a stream from the peer that offers it, and returns a signed statement for
    that peer, or raises a SwarmError. ``follow(leader, line)`` merges what a leader deals. ``progress()``: that of the
    merge that this node leads, or None. ``keep_congestion_control``: as in the settings.
    """

    def __init__(
        self,
        identity: Identity,
        store: Store,
        readers: Readers,
        sent: Callable[[int], object] = lambda _: None,
        take_copy: TakeCopy | None = None,
        *,
        follow: Follow | None = None,
        progress: Callable[[], MergeProgress | None] = lambda: None,
        keep_congestion_control: bool = False,
    ) -> None:
        self._progress = progress
        self._follow = follow
        self._take_copy = take_copy
        self._sent = sent
        self._identity = identity
        self._store = store
        self._readers = readers
        bulk = identity.server_context()
        bulk.set_alpn_protocols([BULK])
        self._live = LiveConnections()
        self._background = Background("file server")
        self._bulk = Bulk(bulk, store, readers, sent, keep_congestion_control=keep_congestion_control, live=self._live)
        self._listener: AlpnListener
        self._reading: Counter[str] = Counter()
        app = web.Application(middlewares=[self._gate])
        app.router.add_get("/v1/models/{digest}", self._stream, allow_head=False)
        app.router.add_get("/v1/models/{digest}/segments", self._segments, allow_head=False)
        if take_copy is not None:
            app.router.add_put("/v1/models/{digest}", self._copy)
        app.router.add_get("/v1/merges/{draft}", self._draft, allow_head=False)
        if follow is not None:
            app.router.add_get("/v1/merge", self._merge, allow_head=False)
        app.router.add_get("/v1/progress", self._tell_progress, allow_head=False)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=server_log,
            keepalive_timeout=KEEP_ALIVE_S,
            handle_signals=False,
            shutdown_timeout=1.0,
        )

    async def start(self, bound: socket.socket) -> None:
        await self._runner.setup()
        if self._runner.server is None:
            raise RuntimeError("not set up")
        self._listener = AlpnListener(bound, self._identity.server_context(), self._runner.server, self._bulk.serve)
        self._listener.open()
        self._background.keep(self._live.run, "looking at connections again")

    async def stop(self) -> None:
        await self._background.close()
        await self._listener.close()
        await self._bulk.close()
        await self._runner.cleanup()

    @web.middleware
    async def _gate(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            peer = _judged(request)
        except NotOfOrganization as refusal:
            _log.warning("refused a reader", why=str(refusal), address=request.remote)
            words = str(refusal)
            raise web.HTTPForbidden(text=words, headers={REFUSAL_HEADER: words}) from None
        seats = self._readers.seats(peer) if peer is not None and peer.role == "sl" else 0
        if peer is None or not seats:
            _log.warning("refused a reader", peer=peer.name if peer else "?", address=request.remote)
            raise web.HTTPForbidden(text="only participants of the training may read here")
        if self._reading[peer.fingerprint] >= REQUESTS_PER_PEER * seats:
            raise web.HTTPTooManyRequests(text=f"{peer.name} has {REQUESTS_PER_PEER * seats} requests open already")
        self._reading[peer.fingerprint] += 1
        try:
            with self._live.held(lambda: _judged(request), lambda _: _abort(request)):
                return await handler(request)
        finally:
            self._reading[peer.fingerprint] -= 1

    async def _tell_progress(self, _request: web.Request) -> web.StreamResponse:
        progress = self._progress()
        if progress is None:
            raise web.HTTPNotFound(text="this node leads no merge")
        return web.json_response(asdict(progress))

    async def _segments(self, request: web.Request) -> web.StreamResponse:
        stored = self._found(request)
        await self._permit(request, stored)
        return web.json_response(stored.manifest.described())

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        stored = self._found(request)
        if _range(request, stored.model.size)[1] > stored.header_size:
            await self._permit(request, stored)
        return await self._send(request, stored.model.size, lambda: stored.path.open("rb"))

    async def _permit(self, request: web.Request, stored: Stored) -> None:
        """Raises HTTPForbidden if, as far as this node knows, the peer does not merge this contribution."""
        peer = _peer_of(request)
        if peer is None:
            raise web.HTTPForbidden(text=REFUSAL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_S):
                while not self._readers.may_read(peer, stored.model.digest):
                    await self._readers.changed.wait()
                return
        _log.warning("refused a reader of a contribution", peer=peer.name, address=request.remote)
        raise web.HTTPForbidden(text=REFUSAL)

    async def _draft(self, request: web.Request) -> web.StreamResponse:
        """Sends a result that is being merged, each piece as soon as it is made; or the finished result."""
        name = request.match_info["draft"]
        if not _DRAFT.fullmatch(name):
            raise web.HTTPNotFound(text="no result has such a name")
        draft: Partial | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STALL_S):  # the leader may not have contacted this node yet
                while (draft := self._store.partial(name)) is None and self._store.result(name) is None:
                    await self._store.draft_grew.wait()
        stored = self._store.result(name)
        if stored is not None:
            return await self._send(request, stored.model.size, lambda: stored.path.open("rb"))
        if draft is None:
            raise web.HTTPNotFound(text="this result is not here")
        return await self._send(request, draft.size, draft.open, draft)

    async def _merge(self, request: web.Request) -> web.StreamResponse:
        """The connection of a leader."""
        peer = _peer_of(request)
        line = web.WebSocketResponse(max_msg_size=MESSAGE_BYTES, compress=False)
        await line.prepare(request)
        if self._follow is not None and peer is not None:
            with contextlib.suppress(ConnectionError):
                await self._follow(peer, line)
        await line.close()
        return line

    async def _send(
        self, request: web.Request, size: int, opened: Callable[[], BinaryIO], draft: Partial | None = None
    ) -> web.StreamResponse:
        start, stop = _range(request, size)
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        partial = "Range" in request.headers
        if partial:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        status = 206 if partial else 200
        with _opened(opened) as file:
            if draft is None and stop - start <= PIECE_BYTES:
                self._sent(stop - start)
                return web.Response(status=status, headers=headers, body=_read(file, start, stop))
            response = web.StreamResponse(status=status, headers=headers)
            response.content_length = stop - start
            await response.prepare(request)
            with contextlib.suppress(ConnectionError, TimeoutError):  # the reader has hung up or takes nothing
                position = start
                while position < stop:
                    end = min(position + PIECE_BYTES, stop)
                    if draft is not None:
                        end = await self._made(draft, position, end)
                    piece = await asyncio.to_thread(_read, file, position, end)
                    async with asyncio.timeout(STALL_S):
                        await response.write(piece)
                    self._sent(len(piece))
                    position = end
                await response.write_eof()
            return response

    async def _made(self, draft: Partial, start: int, stop: int) -> int:
        """Waits for the first of these bytes; returns the offset up to which they are here. Raises TimeoutError."""
        async with asyncio.timeout(STALL_S):
            while (end := draft.there_until(start, stop)) == start:
                await self._store.draft_grew.wait()
        return end

    async def _copy(self, request: web.Request) -> web.StreamResponse:
        """A peer offers a copy of what it holds. The answer lasts as long as the copy takes, and shows its progress."""
        peer, digest = _peer_of(request), request.match_info["digest"]
        if self._take_copy is None or peer is None or not _DIGEST.fullmatch(digest):
            raise web.HTTPNotFound(text="no copies are taken here")
        moved = asyncio.Event()
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        copying = asyncio.ensure_future(self._take_copy(peer, digest, lambda _: moved.set()))
        try:
            with contextlib.suppress(ConnectionError):  # the peer has hung up
                while not (await asyncio.wait([copying], timeout=SIGN_EVERY_S))[0]:
                    if moved.is_set():
                        moved.clear()
                        await response.write(COPY_MOVES)
                await response.write(_how_it_went(copying))
                await response.write_eof()
        finally:
            copying.cancel()
        return response

    def _found(self, request: web.Request) -> Stored:
        """Finds a stream by digest only: no part of a request ever becomes a path."""
        digest = request.match_info["digest"]
        stored = self._store.get(digest) if _DIGEST.fullmatch(digest) else None
        if stored is None:
            raise web.HTTPNotFound(text="these parameters are not here")
        return stored


def _peer_of(request: web.Request) -> PeerIdentity | None:
    """The peer; None if the gate has refused it."""
    try:
        return _judged(request)
    except NotOfOrganization:
        return None


def _judged(request: web.Request) -> PeerIdentity | None:
    """The peer; None if it cannot be identified. Raises NotOfOrganization."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport else None
    try:
        return peer_of(tls) if tls else None
    except NotOfOrganization:
        raise
    except IdentityError:
        return None


def _how_it_went(copying: "asyncio.Future[ResultCopy]") -> bytes:
    try:
        return COPY_TAKEN + base64.b64encode(copying.result().SerializeToString())
    except SwarmError as error:
        return f"\n{error}".encode()[:WORDS_BYTES]


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _range(request: web.Request, size: int) -> tuple[int, int]:
    """Offsets of the first byte and of the one after the last. Raises HTTPRequestRangeNotSatisfiable."""
    try:
        start, stop, _ = request.http_range.indices(size)
    except ValueError:
        start, stop = size, size
    if start >= stop:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return start, stop


def _opened(opened: Callable[[], BinaryIO]) -> BinaryIO:
    """Once open, the file can be read to its end even if the store deletes it meanwhile. Raises HTTPNotFound."""
    try:
        return opened()
    except (OSError, PartialEnded):
        raise web.HTTPNotFound(text="these parameters are no longer here") from None


def _read(file: BinaryIO, start: int, stop: int) -> bytes:
    data = os.pread(file.fileno(), stop - start, start)
    if len(data) < stop - start:
        raise web.HTTPInternalServerError(text="the file was cut short")
    return data
