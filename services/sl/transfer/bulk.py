"""Serves the bytes of parameter streams from threads, so that large data never passes an event loop.

A connection has a thread only while bytes are sent on it; see services.sl.transfer.parking.

It understands the requests of services.sl.transfer.connections: GET with one range, over a connection whose TLS hello
names the protocol. Everything else is for the file server.
"""

import asyncio
import contextlib
import os
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic

from services.errors import IdentityError, NotOfOrganization
from services.identity.identity import PeerIdentity
from services.identity.live import LiveConnections
from services.identity.peer_context import judge_of, peer_of
from services.runtime import logs
from services.runtime.background import Background
from services.sl.transfer.congestion import share_link
from services.sl.transfer.connections import LEAST_BYTES_PER_S, PACKED
from services.sl.transfer.packing import Packer, width_of
from services.sl.transfer.parking import HOLD_S, News, SocketWork, Wait, carry_out, handshake
from services.sl.transfer.partials import Partial, PartialEnded
from services.sl.transfer.readers import CATCH_UP_S, REFUSAL, Readers
from services.sl.transfer.store import Store
from swarm_callback.params import parse_header

PIECE_BYTES = 256 * 1024
HANDSHAKE_S = 10.0
REQUEST_S = 10.0  # from its first byte to its last
REQUEST_BYTES = 8 * 1024
KEEP_ALIVE_S = 3600.0

# A reader that takes nothing, or next to nothing, for this long is cut off; a slow link moves far more.
STALL_S = 60.0

# Per peer, which reads from only a few connections at once.
CONNECTIONS_PER_PEER = 16

# In all; idle ones cost little. One more ends the connection that has been idle for longest.
CONNECTIONS = 4096

# Served at the same time; the rest wait until one of these is done or has to wait itself.
THREADS = 64

_REQUEST = re.compile(r"GET (/v1/(?:models/([0-9a-f]{64})|merges/([0-9]+-[0-9]+-[0-9]+))) HTTP/1\.1")
_RANGE = re.compile(r"\r\nrange: *bytes=([0-9]{1,18})-([0-9]{1,18})\r\n", re.IGNORECASE)

_log = logs.get("file server")


_PACKED = re.compile(rf"\r\naccept-encoding: *{PACKED}\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """An open stream. ``layout``: hash of its header. ``draft``: set while the stream is still a draft."""

    file: int
    size: int
    header_size: int
    layout: bytes
    draft: Partial | None = None


class RangeRefused(Exception):
    """A refused request: ``status``, and the reason as text."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


class Bulk:
    """``readers`` decide about each request, in a thread. ``sent`` gets the number of bytes sent."""

    def __init__(
        self,
        context: ssl.SSLContext,
        store: Store,
        readers: Readers,
        sent: Callable[[int], object],
        *,
        keep_congestion_control: bool = False,
        live: LiveConnections | None = None,
    ) -> None:
        self._live = live or LiveConnections()
        self._keep_congestion_control = keep_congestion_control
        self._context = context
        self._store = store
        self._readers = readers
        self._sent = sent
        self._pool = ThreadPoolExecutor(THREADS, "bulk")
        self._background = Background("file server")
        self._tasks: dict[socket.socket, asyncio.Task[None]] = {}
        self._idle: dict[socket.socket, None] = {}  # longest idle first
        self._lock = threading.Lock()
        self._peers: Counter[str] = Counter()
        self._widths: dict[bytes, int] = {}  # bytes of an element, by layout

    def serve(self, plain: socket.socket) -> None:
        """Takes over a connection."""
        if len(self._tasks) >= CONNECTIONS and not self._end_idlest():
            plain.close()
            return
        task = self._tasks[plain] = self._background.run(self._run(plain), "serving a connection")
        task.add_done_callback(lambda _: self._ended(plain))

    async def close(self) -> None:
        """Ends all connections."""
        await self._background.close()
        self._pool.shutdown(wait=False)

    def _end_idlest(self) -> bool:
        """Ends the connection that was idle longest; False if none is idle. Its reader reconnects when it needs to."""
        with self._lock:
            idlest = next(iter(self._idle), None)
            task = self._tasks.get(idlest) if idlest is not None else None
            if idlest is None or task is None:
                return False
            del self._idle[idlest]
        task.cancel()
        return True

    def _ended(self, plain: socket.socket) -> None:
        del self._tasks[plain]
        plain.close()

    async def _run(self, plain: socket.socket) -> None:
        try:
            plain.settimeout(HOLD_S)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._keep_congestion_control:
                share_link(plain)
            with self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as tls:
                await carry_out(self._converse(tls, plain), self._pool, lambda: _shut(tls))
        except (OSError, ValueError, IdentityError) as error:  # it has hung up, is silent, or is no member
            _log.debug("a connection ends", why=str(error))

    def _converse(self, tls: ssl.SSLSocket, plain: socket.socket) -> SocketWork[None]:
        yield from handshake(tls, HANDSHAKE_S)
        try:
            peer = peer_of(tls)
        except NotOfOrganization as refusal:
            _log.warning("refused a reader", why=str(refusal))
            if (yield from _some(tls, REQUEST_S)):
                yield from _refuse(tls, HTTPStatus.FORBIDDEN, str(refusal))
            return
        if peer is None:
            return
        with self._live.held(judge_of(tls), lambda _: _shut(tls)):
            yield from self._serve(tls, plain, peer)

    def _serve(self, tls: ssl.SSLSocket, plain: socket.socket, peer: PeerIdentity) -> SocketWork[None]:
        with self._lock:
            if self._peers[peer.fingerprint] >= CONNECTIONS_PER_PEER * max(1, self._readers.seats(peer)):
                _log.warning("too many connections", peer=peer.name)
                return
            self._peers[peer.fingerprint] += 1
        try:
            while (head := (yield from self._request(tls, plain))) is not None:
                try:
                    yield from self._answer(tls, peer, head)
                except RangeRefused as refused:
                    yield from _refuse(tls, refused.status, str(refused))
        finally:
            with self._lock:
                self._peers[peer.fingerprint] -= 1
                if not self._peers[peer.fingerprint]:
                    del self._peers[peer.fingerprint]

    def _request(self, tls: ssl.SSLSocket, plain: socket.socket) -> SocketWork[str | None]:
        """The head of the next request; None if there are no more. Raises OSError, ValueError."""
        with self._lock:
            self._idle[plain] = None
        try:
            head = yield from _some(tls, KEEP_ALIVE_S)
        finally:
            with self._lock:
                self._idle.pop(plain, None)
        give_up = monotonic() + REQUEST_S
        while head and not head.endswith(b"\r\n\r\n"):
            left = give_up - monotonic()
            if len(head) >= REQUEST_BYTES or left <= 0:
                raise ValueError("a request that does not end")
            more = yield from _some(tls, left)
            if not more:
                return None
            head += more
        return head.decode("latin-1") or None

    def _answer(self, tls: ssl.SSLSocket, peer: PeerIdentity, head: str) -> SocketWork[None]:
        if peer.role != "sl" or not self._readers.seats(peer):
            _log.warning("refused a reader", peer=peer.name)
            raise RangeRefused(HTTPStatus.FORBIDDEN, "only participants of the training may read here")
        asked, span = _REQUEST.match(head), _RANGE.search(head)
        if asked is None or span is None:
            raise RangeRefused(HTTPStatus.NOT_FOUND, "nothing but a range of a stream is served here")
        start, stop = int(span[1]), int(span[2]) + 1
        found = yield from self._found(tls, asked[2], asked[3])
        try:
            if not start < stop <= found.size:
                raise RangeRefused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"it has {found.size} bytes")
            if asked[2] is not None and stop > found.header_size:
                yield from self._permit(tls, peer, asked[2])
            packed = _PACKED.search(head) is not None
            headers: dict[str, str | int] = {"Content-Range": f"bytes {start}-{stop - 1}/{found.size}"}
            headers |= {"Content-Encoding": PACKED} if packed else {"Content-Length": stop - start}
            yield from _say(tls, HTTPStatus.PARTIAL_CONTENT, headers, "")
            yield from self._send(tls, found, (start, stop), Packer() if packed else None)
        finally:
            os.close(found.file)

    def _permit(self, tls: ssl.SSLSocket, peer: PeerIdentity, digest: str) -> SocketWork[None]:
        """Raises RangeRefused if, as far as this node knows, the peer does not merge this contribution."""
        news = News(self._readers.changed, lambda: self._readers.may_read(peer, digest))
        if not (yield from self._until(news, tls, CATCH_UP_S)):
            _log.warning("refused a reader of a contribution", peer=peer.name)
            raise RangeRefused(HTTPStatus.FORBIDDEN, REFUSAL)

    def _width_of(self, found: Found) -> int:
        """Bytes of one element of the stream."""
        if found.layout not in self._widths:
            header = os.pread(found.file, found.header_size, 0)
            self._widths[found.layout] = width_of(parse_header(header, found.size))
        return self._widths[found.layout]

    def _found(self, tls: ssl.SSLSocket, digest: str | None, name: str | None) -> SocketWork[Found]:
        """Raises RangeRefused."""
        if name is not None:  # the leader may not have contacted this node yet

            def there() -> bool:
                return self._store.result(name) is not None or self._store.partial(name) is not None

            yield from self._until(News(self._store.draft_grew, there), tls)
        stored = self._store.get(digest) if digest is not None else self._store.result(name or "")
        draft = self._store.partial(name) if name is not None else None
        try:
            if stored is not None:
                file = os.open(stored.path, os.O_RDONLY | os.O_CLOEXEC)
                return Found(file, stored.model.size, stored.header_size, bytes.fromhex(stored.model.layout))
            if draft is not None:
                return Found(draft.duplicate(), draft.size, draft.header_size, draft.layout, draft)
        except (OSError, PartialEnded):
            raise RangeRefused(HTTPStatus.NOT_FOUND, "these parameters are no longer here") from None
        raise RangeRefused(HTTPStatus.NOT_FOUND, "these parameters are not here")

    def _send(self, tls: ssl.SSLSocket, found: Found, span: tuple[int, int], packer: Packer | None) -> SocketWork[None]:
        position, stop = span
        width = self._width_of(found) if packer is not None else 1
        buffer = memoryview(bytearray(PIECE_BYTES))
        began, since = monotonic(), 0
        while position < stop:
            end = min(position + PIECE_BYTES, stop)
            if found.draft is not None:
                end = yield from self._made(tls, found.draft, position, end)
                began = max(began, monotonic() - STALL_S) if since else monotonic()
            piece = buffer[: _read(found.file, buffer[: end - position], position)]
            if not piece:
                raise ValueError("the file was cut short")
            sent = piece if packer is None else packer.pack(piece, width)
            yield from _sent(tls, sent)
            self._sent(len(sent))
            position += len(piece)
            since += len(piece)
            if (now := monotonic()) - began > STALL_S:
                if since < LEAST_BYTES_PER_S * STALL_S:
                    raise TimeoutError("it takes next to nothing")
                began, since = now, 0

    def _made(self, tls: ssl.SSLSocket, draft: Partial, start: int, stop: int) -> SocketWork[int]:
        """Waits for the first of these bytes; returns the offset up to which they are here. Raises TimeoutError."""
        news = News(self._store.draft_grew, lambda: draft.there_until(start, stop) > start)
        if not (yield from self._until(news, tls)):
            raise TimeoutError("the segment is not made")
        return draft.there_until(start, stop)

    def _until(self, news: News, tls: ssl.SSLSocket, seconds: float = STALL_S) -> SocketWork[bool]:
        """Whether ``news`` came true in time. Raises ConnectionResetError once the reader is gone, so that the
        abandoned connections of a reader that retries do not use up its limit.
        """
        if news.there():
            return True
        if (yield Wait(tls, seconds, news=news)) and not news.there():
            raise ConnectionResetError("it has hung up")  # readers send no request before the last answer
        return news.there()


def _read(file: int, view: memoryview, position: int) -> int:
    return os.preadv(file, [view], position)


def _some(tls: ssl.SSLSocket, seconds: float) -> SocketWork[bytes]:
    """The next bytes of a request. Raises OSError, TimeoutError."""
    give_up = monotonic() + seconds
    while True:
        with contextlib.suppress(TimeoutError):
            return tls.recv(REQUEST_BYTES)
        if not (yield Wait(tls, give_up - monotonic())):
            raise TimeoutError("it says nothing")


def _sent(tls: ssl.SSLSocket, data: memoryview | bytes) -> SocketWork[None]:
    """Raises OSError, TimeoutError."""
    give_up = monotonic() + STALL_S + len(data) / LEAST_BYTES_PER_S
    view = memoryview(data)
    while view:
        with contextlib.suppress(TimeoutError):
            view = view[tls.send(view) :]
            continue
        takes = yield Wait(tls, STALL_S, to_write=True)
        if not takes or monotonic() > give_up:
            raise TimeoutError("it takes nothing")


def _say(tls: ssl.SSLSocket, status: HTTPStatus, headers: dict[str, str | int], words: str) -> SocketWork[None]:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    text = f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n{words}"
    yield from _sent(tls, text.encode("latin-1", "replace"))


def _refuse(tls: ssl.SSLSocket, status: HTTPStatus, words: str) -> SocketWork[None]:
    yield from _say(tls, status, {"Content-Length": len(words.encode())}, words)


def _shut(tls: ssl.SSLSocket) -> None:
    """Shuts down the TCP socket: a TLS shutdown is not safe from another thread."""
    with contextlib.suppress(OSError):  # it has ended already
        socket.socket.shutdown(tls, socket.SHUT_RDWR)
