"""Serves the bytes of parameter streams from threads, one a connection: no event loop touches what is large.

It understands what services.sl.transfers asks: GET with one range, over a connection that says so in its TLS hello.
Everything else is for the file server.
"""

import contextlib
import os
import re
import select
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic

from services.errors import IdentityError
from services.identity.identity import PeerIdentity, identity_of_certificate
from services.runtime import logs
from services.sl.congestion import share_link
from services.sl.packing import Packer, width_of
from services.sl.partials import Partial
from services.sl.store import Store
from services.sl.transfers import LEAST_BYTES_PER_S, PACKED
from swarm_callback.params import parse_header

PIECE_BYTES = 256 * 1024
HANDSHAKE_S = 10.0
REQUEST_S = 10.0  # from its first byte to its last
REQUEST_BYTES = 8 * 1024
KEEP_ALIVE_S = 3600.0

# A reader that takes nothing, or next to nothing, for this long is cut off; a slow link moves far more.
STALL_S = 60.0

# While a reader waits for a segment, how often it is looked whether it still does.
LOOK_UP_S = 0.5

# Of one peer: it reads from a few nodes' segments at once; and of all together.
CONNECTIONS_PER_PEER = 16
CONNECTIONS = 512

_REQUEST = re.compile(r"GET (/v1/(?:models/([0-9a-f]{64})|merges/([0-9]+-[0-9]+-[0-9]+))) HTTP/1\.1")
_RANGE = re.compile(r"\r\nrange: *bytes=([0-9]{1,18})-([0-9]{1,18})\r\n", re.IGNORECASE)

_log = logs.get("file server")


_PACKED = re.compile(rf"\r\naccept-encoding: *{PACKED}\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A stream that is open; ``draft``: as long as it is one. ``layout`` is the hash of its header."""

    file: int
    size: int
    header_size: int
    layout: bytes
    draft: Partial | None = None


class Refused(Exception):
    """``status`` and what is said about it."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


class Bulk:
    """``may_read`` is asked at each request, in a thread; ``sent`` gets the bytes sent."""

    def __init__(
        self,
        context: ssl.SSLContext,
        store: Store,
        may_read: Callable[[PeerIdentity], bool],
        sent: Callable[[int], object],
        *,
        keep_congestion_control: bool = False,
    ) -> None:
        self._keep_congestion_control = keep_congestion_control
        self._context = context
        self._store = store
        self._may_read = may_read
        self._sent = sent
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._peers: Counter[str] = Counter()
        self._stopped = False
        self._widths: dict[bytes, int] = {}  # of elements, by layout

    def serve(self, plain: socket.socket) -> None:
        """Takes a connection over, in a thread of its own."""
        with self._lock:
            if self._stopped or len(self._open) >= CONNECTIONS:
                plain.close()
                return
            self._open.add(plain)
        threading.Thread(target=self._run, args=(plain,), name="bulk", daemon=True).start()

    def stop(self) -> None:
        """Ends all connections."""
        with self._lock:
            self._stopped = True
            self._store.bell.ring()  # for those that wait for a segment
            for plain in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(plain, socket.SHUT_RDWR)

    def _run(self, plain: socket.socket) -> None:
        connection = plain
        try:
            plain.settimeout(HANDSHAKE_S)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._keep_congestion_control:
                share_link(plain)
            tls = connection = self._context.wrap_socket(plain, server_side=True)
            with self._lock:
                self._open.discard(plain)
                self._open.add(tls)
                if self._stopped:
                    return
            self._converse(tls)
        except (OSError, ValueError, IdentityError) as error:  # it has hung up, is silent, or none of ours
            _log.debug("a connection ends", why=str(error))
        finally:
            with self._lock:
                self._open.discard(plain)
                self._open.discard(connection)
            connection.close()

    def _converse(self, tls: ssl.SSLSocket) -> None:
        der = tls.getpeercert(binary_form=True)
        if der is None:
            return
        peer = identity_of_certificate(der)
        with self._lock:
            if self._peers[peer.fingerprint] >= CONNECTIONS_PER_PEER:
                _log.warning("too many connections", peer=peer.name)
                return
            self._peers[peer.fingerprint] += 1
        try:
            buffer, packer = memoryview(bytearray(PIECE_BYTES)), Packer()
            while (head := _request(tls)) is not None:
                try:
                    self._answer(tls, peer, head, buffer, packer)
                except Refused as refused:
                    _say(tls, refused.status, {"Content-Length": len(str(refused).encode())}, str(refused))
        finally:
            with self._lock:
                self._peers[peer.fingerprint] -= 1
                if not self._peers[peer.fingerprint]:
                    del self._peers[peer.fingerprint]

    def _answer(self, tls: ssl.SSLSocket, peer: PeerIdentity, head: str, buffer: memoryview, packer: Packer) -> None:
        if peer.role != "sl" or not self._may_read(peer):
            _log.warning("refused a reader", peer=peer.name)
            raise Refused(HTTPStatus.FORBIDDEN, "only participants of the training may read here")
        asked, span = _REQUEST.match(head), _RANGE.search(head)
        if asked is None or span is None:
            raise Refused(HTTPStatus.NOT_FOUND, "nothing but a range of a stream is served here")
        start, stop = int(span[1]), int(span[2]) + 1
        found = self._found(tls, asked[2], asked[3])
        try:
            if not start < stop <= found.size:
                raise Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"it has {found.size} bytes")
            packed = _PACKED.search(head) is not None
            headers: dict[str, str | int] = {"Content-Range": f"bytes {start}-{stop - 1}/{found.size}"}
            headers |= {"Content-Encoding": PACKED} if packed else {"Content-Length": stop - start}
            _say(tls, HTTPStatus.PARTIAL_CONTENT, headers, "")
            self._send(tls, found, (start, stop), buffer, packer if packed else None)
        finally:
            os.close(found.file)

    def _width_of(self, found: Found) -> int:
        """Bytes of its elements."""
        if found.layout not in self._widths:
            header = os.pread(found.file, found.header_size, 0)
            self._widths[found.layout] = width_of(parse_header(header, found.size))
        return self._widths[found.layout]

    def _found(self, tls: ssl.SSLSocket, digest: str | None, name: str | None) -> Found:
        """Raises Refused."""
        give_up = monotonic() + STALL_S
        while True:
            rung = self._store.bell.rung
            stored = self._store.get(digest) if digest is not None else self._store.result(name or "")
            draft = self._store.partial(name) if name is not None else None
            try:
                if stored is not None:
                    file = os.open(stored.path, os.O_RDONLY | os.O_CLOEXEC)
                    return Found(file, stored.model.size, stored.header_size, bytes.fromhex(stored.model.layout))
                if draft is not None:
                    return Found(draft.duplicate(), draft.size, draft.header_size, draft.layout, draft)
            except OSError:
                raise Refused(HTTPStatus.NOT_FOUND, "these parameters are no longer here") from None
            # The leader of a merge may not have spoken to this node yet.
            if name is None or not self._wait(tls, rung, give_up):
                raise Refused(HTTPStatus.NOT_FOUND, "these parameters are not here")

    def _send(
        self, tls: ssl.SSLSocket, found: Found, span: tuple[int, int], buffer: memoryview, packer: Packer | None
    ) -> None:
        position, stop = span
        width = self._width_of(found) if packer is not None else 1
        tls.settimeout(STALL_S)
        began, since = monotonic(), 0
        while position < stop:
            end = min(position + PIECE_BYTES, stop)
            if found.draft is not None:
                end = self._made(tls, found.draft, position, end)
                began = max(began, monotonic() - STALL_S) if since else monotonic()
            piece = buffer[: _read(found.file, buffer[: end - position], position)]
            if not piece:
                raise ValueError("the file was cut short")
            sent = piece if packer is None else packer.pack(piece, width)
            tls.sendall(sent)
            self._sent(len(sent))
            position += len(piece)
            since += len(piece)
            if (now := monotonic()) - began > STALL_S:
                if since < LEAST_BYTES_PER_S * STALL_S:
                    raise TimeoutError("it takes next to nothing")
                began, since = now, 0

    def _made(self, tls: ssl.SSLSocket, draft: Partial, start: int, stop: int) -> int:
        """Returns once the first of these bytes are there, and says how far. Raises TimeoutError."""
        give_up = monotonic() + STALL_S
        while True:
            rung = self._store.bell.rung
            end = draft.there_until(start, stop)
            if end > start:
                return end
            if not self._wait(tls, rung, give_up):
                raise TimeoutError("the segment is not made")

    def _wait(self, tls: ssl.SSLSocket, rung: int, give_up: float) -> bool:
        """For news of the store; False where none came in time. Raises ConnectionResetError once the reader is gone:
        one that asks again and again must not fill its number of connections with those it has left.
        """
        while not self._stopped and (left := give_up - monotonic()) > 0:
            if self._store.bell.wait_beyond(rung, min(left, LOOK_UP_S)):
                return True
            if _says_something(tls):  # nothing is asked before all is answered: it hangs up
                raise ConnectionResetError("it has hung up")
        return False


def _says_something(tls: ssl.SSLSocket) -> bool:
    poll = select.poll()
    poll.register(tls, select.POLLIN)
    return bool(poll.poll(0))


def _read(file: int, view: memoryview, position: int) -> int:
    return os.preadv(file, [view], position)


def _request(tls: ssl.SSLSocket) -> str | None:
    """The next one's head; None where there is none any more. Raises OSError, ValueError."""
    tls.settimeout(KEEP_ALIVE_S)
    head = tls.recv(REQUEST_BYTES)
    give_up = monotonic() + REQUEST_S
    while head and not head.endswith(b"\r\n\r\n"):
        left = give_up - monotonic()
        if len(head) >= REQUEST_BYTES or left <= 0:
            raise ValueError("a request that does not end")
        tls.settimeout(left)
        more = tls.recv(REQUEST_BYTES)
        if not more:
            return None
        head += more
    return head.decode("latin-1") or None


def _say(tls: ssl.SSLSocket, status: HTTPStatus, headers: dict[str, str | int], words: str) -> None:
    tls.settimeout(STALL_S)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    tls.sendall(f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n{words}".encode("latin-1", "replace"))
