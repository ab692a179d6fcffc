"""Reads ranges from file servers straight into memory: TLS 1.3 connections that stay open, read by threads.

Separate from the event loop's client, because every byte of a model passes here: a record is decrypted directly into
the buffer in which it is hashed and from which it is written. A connection on which nothing arrives has no thread; see
services.sl.transfer.parking.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import TypeVar

from services.errors import PeerUnreachable
from services.identity.peers import Expected
from services.runtime.probing import probe
from services.sl.transfer.packing import FRAME, Unpacker, limit_of
from services.sl.transfer.parking import HOLD_S, SocketWork, Wait, carry_out, handshake
from services.sl.view import TrainingMember

CONNECT_S = 10.0

# What a connection is for, by ALPN: a file server hands it to a thread.
BULK = "swarm-bulk/1"

# In Accept-Encoding: the answer may be frames of services.sl.transfer.packing, whose length is not known before.
PACKED = "swarm-planes"

# Read at the same time from all peers; the rest wait until one of these is done or receives nothing. Inputs and results
# of a merge have separate threads, as no result can come before its inputs.
MOST_AT_ONCE = 32

# A firewall may have forgotten an idle connection: if nothing comes within this time, a new one is made. That also
# happens if a peer is only slow, or has yet to make the data; it costs a handshake.
SUSPECT_AFTER_S = 2.0

# Idle connections that are kept for each peer, and in all.
KEPT_FOR_EACH = 4
KEPT = 1024

# A peer that sends less than this holds up the swarm and is given up. Measured over the stall time.
LEAST_BYTES_PER_S = 512

_HEADERS_BYTES = 16 * 1024
_WORDS_BYTES = 400

Take = Callable[[int, memoryview], object]
Got = TypeVar("Got")


def expected_at(holder: TrainingMember) -> Expected:
    """The identity that must answer at this member's address."""
    return Expected("sl", holder.name, holder.keys)


class Transfers:
    """``stall_s``: seconds without a byte, or with almost none, after which a peer is given up. ``packed``: whether
    streams are requested in packed form.
    """

    def __init__(self, context: ssl.SSLContext, stall_s: float) -> None:
        self.packed = False
        self._context = context
        self.stall_s = stall_s
        self._pools = {made: ThreadPoolExecutor(MOST_AT_ONCE, "transfer") for made in (True, False)}
        self._idle: dict[tuple[str, int, Expected], list[_Connection]] = {}
        self._lock = threading.Lock()
        self._renewals = 0

    async def read(  # what is read, and where it goes
        self,
        holder: TrainingMember,
        path: str,
        cut: tuple[int, Sequence[int]],
        take: Take,
        moved: Callable[[int], object],
        *,
        made: bool = True,
    ) -> None:
        """Reads bytes of a stream. ``cut``: the offset, and the sizes of the pieces. ``take(number, piece)`` gets each
        piece, and ``moved`` the number of bytes that arrive, both in a thread. ``made``: False if the holder may still
        have to make the bytes.

        Raises PeerUnreachable, errors of ``take``, and CancelledError once no thread works on it any more.
        """
        start, sizes = cut
        reading = _Reading(self, holder, path, (start, start + sum(sizes)))
        await carry_out(reading.run(sizes, take, moved), self._pools[made], reading.stop)

    def renewed(self) -> None:
        """Uses this node's new certificate for connections from now on; running transfers continue."""
        with self._lock:
            self._renewals += 1
            connections = [connection for idle in self._idle.values() for connection in idle]
            self._idle.clear()
        for connection in connections:
            connection.close()

    def close(self) -> None:
        """To be called when no transfer is running."""
        self.renewed()
        for pool in self._pools.values():
            pool.shutdown(wait=False)

    def take_idle(self, holder: TrainingMember) -> "_Connection | None":
        with self._lock:
            idle = self._idle.get((holder.host, holder.port, expected_at(holder)))
            return idle.pop() if idle else None

    def drop_idle(self, holder: TrainingMember) -> None:
        with self._lock:
            idle = self._idle.pop((holder.host, holder.port, expected_at(holder)), [])
        for connection in idle:
            connection.close()

    def open(self, holder: TrainingMember) -> "_Connection":
        """Raises OSError."""
        return _Connection(self._context, holder, self.stall_s, self._renewals)

    def keep(self, holder: TrainingMember, connection: "_Connection") -> None:
        with self._lock:
            if connection.renewals != self._renewals:
                connection.close()
                return
            idle = self._idle.setdefault((holder.host, holder.port, expected_at(holder)), [])
            idle.append(connection)
            full = next(kept for kept in self._idle.values() if kept)
            if len(idle) > KEPT_FOR_EACH:
                full = idle
            elif sum(map(len, self._idle.values())) <= KEPT:
                return
            oldest = full.pop(0)
        oldest.close()


class _Reading:
    """One range from one holder."""

    def __init__(self, transfers: Transfers, holder: TrainingMember, path: str, span: tuple[int, int]) -> None:
        self._transfers = transfers
        self._holder = holder
        self._path = path
        self._span = span
        self._stopped = False
        self._connection: _Connection | None = None

    def run(self, sizes: Sequence[int], take: Take, moved: Callable[[int], object]) -> SocketWork[None]:
        try:
            connection = yield from self._asked()
            try:
                buffer = memoryview(bytearray(max(sizes)))
                read = connection.read_packed_into if connection.packed else connection.read_into
                for number, size in enumerate(sizes):
                    yield from read(buffer[:size], moved)
                    take(number, buffer[:size])
            except BaseException:
                connection.close()
                raise
            self._transfers.keep(self._holder, connection)
        except (OSError, ValueError) as error:  # ssl.SSLError and TimeoutError too
            raise self._unreachable(_words(error)) from None

    def stop(self) -> None:
        """Called from another thread."""
        self._stopped = True
        if self._connection is not None:
            self._connection.shut()

    def _asked(self) -> SocketWork["_Connection"]:
        """A connection on which the body of the answer comes next. An idle one may have been closed meanwhile."""
        soon_s = min(SUSPECT_AFTER_S, self._transfers.stall_s)
        while (idle := self._transfers.take_idle(self._holder)) is not None:
            try:
                return (yield from self._ask(idle, soon_s))
            except TimeoutError:
                idle.close()
                self._transfers.drop_idle(self._holder)  # the others are no younger
            except OSError:
                idle.close()
            except BaseException:
                idle.close()
                raise
        connection = self._transfers.open(self._holder)
        try:
            yield from connection.greet()
            return (yield from self._ask(connection, self._transfers.stall_s))
        except BaseException:
            connection.close()
            raise

    def _ask(self, connection: "_Connection", within_s: float) -> SocketWork["_Connection"]:
        self._connection = connection
        if self._stopped:
            raise ConnectionAbortedError("not wanted any more")
        start, stop = self._span
        packed = self._transfers.packed
        status, length = yield from connection.ask(self._path, start, stop, within_s, packed=packed)
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            words = yield from connection.words(length)
            raise self._unreachable(f"it answered {status} ({words})")
        if status == HTTPStatus.OK or (length != stop - start and not connection.packed):
            raise self._unreachable(f"it answered with {length} bytes instead of {stop - start}")
        return connection

    def _unreachable(self, problem: str) -> PeerUnreachable:
        return PeerUnreachable(
            peer=self._holder.name, address=f"{self._holder.host}:{self._holder.port}", problem=problem
        )


class _Connection:
    """HTTP/1.1, as far as a file server's answers need it. Raises OSError; ValueError for malformed answers.

    ``renewals``: how often this node's certificate had been renewed when the connection was made.
    """

    def __init__(self, context: ssl.SSLContext, holder: TrainingMember, stall_s: float, renewals: int) -> None:
        host, port = holder.host, holder.port
        self.renewals = renewals
        self._stall_s = stall_s
        self._expected = expected_at(holder)
        plain = socket.create_connection((host, port), min(CONNECT_S, stall_s))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            probe(plain)
            plain.getpeername()  # raises if it was reset already; wrap_socket would lose the socket
            self._socket = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        except BaseException:
            plain.close()
            raise
        self._host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._ahead = b""  # came with the headers
        self._unpacker = Unpacker()
        self.packed = False  # whether the present answer is packed

    def greet(self) -> SocketWork[None]:
        """Does the handshake; to be called once, before anything else."""
        yield from handshake(self._socket, min(CONNECT_S, self._stall_s))
        self._expected.check(self._socket.getpeercert(binary_form=True))

    def ask(
        self, path: str, start: int, stop: int, within_s: float, *, packed: bool = False
    ) -> SocketWork[tuple[int, int]]:
        """Sends a request; returns status and length of the answer, -1 if it does not say. Raises TimeoutError after
        ``within_s`` of silence.
        """
        accepts = f"Accept-Encoding: {PACKED}\r\n" if packed else ""
        request = f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nRange: bytes={start}-{stop - 1}\r\n{accepts}\r\n"
        self._socket.sendall(request.encode("ascii"))
        head = b""
        while (end := head.find(b"\r\n\r\n")) < 0:
            if len(head) > _HEADERS_BYTES:
                raise ValueError("its answer begins with too many headers")
            head += yield from self._some(_HEADERS_BYTES, within_s)
        self._ahead = head[end + 4 :]
        first, *lines = head[:end].decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.packed = packed and headers.get("content-encoding") == PACKED
        return int(first.split(" ", 2)[1]), int(headers.get("content-length", "-1"))

    def read_into(self, view: memoryview, moved: Callable[[int], object]) -> SocketWork[None]:
        """Fills ``view``."""
        began, since = monotonic(), 0
        if self._ahead:
            count = min(len(self._ahead), len(view))
            view[:count] = self._ahead[:count]
            view, self._ahead = view[count:], self._ahead[count:]
            moved(count)
        while view:
            try:  # the fast path: this runs for each 16 KiB
                count = self._socket.recv_into(view)
            except TimeoutError:
                count = yield from self._received(partial(self._socket.recv_into, view), self._stall_s)
            if not count:
                raise ConnectionResetError("it broke off")
            moved(count)
            view = view[count:]
            since += count
            if (now := monotonic()) - began > self._stall_s:
                if since < LEAST_BYTES_PER_S * self._stall_s:
                    raise TimeoutError(f"it sent {since} bytes in {now - began:.1f} s")
                began, since = now, 0

    def read_packed_into(self, view: memoryview, moved: Callable[[int], object]) -> SocketWork[None]:
        """Fills ``view`` from frames."""
        while view:
            head = memoryview(bytearray(FRAME.size))
            yield from self.read_into(head, moved)
            size, packed_size, width = FRAME.unpack(head)
            if not 0 < size <= len(view) or packed_size > limit_of(size):
                raise ValueError("it sent a frame that does not belong here")
            body = memoryview(bytearray(packed_size))
            yield from self.read_into(body, moved)
            self._unpacker.unpack(width, body, view[:size])
            view = view[size:]

    def words(self, length: int) -> SocketWork[str]:
        """The beginning of the answer's text."""
        while len(self._ahead) < min(length, _WORDS_BYTES):
            self._ahead += yield from self._some(_WORDS_BYTES, self._stall_s)
        return self._ahead[:_WORDS_BYTES].decode("utf-8", "replace")

    def shut(self) -> None:
        """Ends the wait of another thread on this connection."""
        with contextlib.suppress(OSError):  # it has ended already
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # a TLS shutdown is not safe from another thread

    def close(self) -> None:
        self._socket.close()

    def _some(self, most: int, within_s: float) -> SocketWork[bytes]:
        data = yield from self._received(partial(self._socket.recv, most), within_s)
        if not data:
            raise ConnectionResetError("it broke off")
        return data

    def _received(self, read: Callable[[], Got], within_s: float) -> SocketWork[Got]:
        """The result of ``read`` once data has arrived. Raises OSError, TimeoutError."""
        give_up = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                return read()
            give_up = give_up or monotonic() + within_s - HOLD_S
            left = give_up - monotonic()
            if left <= 0 or not (yield Wait(self._socket, left)):
                raise TimeoutError("it is silent")


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
