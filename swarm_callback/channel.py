"""Two named pipes between an ML program and its SL: both ends, blocking, one reader and one writer thread each.

Every wait is a poll() that also notices at once when the other end dies, or when another thread calls ``interrupt()``.
The pipes themselves are non-blocking; bodies of any size pass in large pieces.
"""

import contextlib
import errno
import fcntl
import os
import select
import stat
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from swarm_callback.errors import (
    ChannelClosed,
    ChannelError,
    Interrupted,
    PipeNotMade,
    PipesInUse,
    StreamError,
    WireError,
)
from swarm_callback.pages import PipeWriter
from swarm_callback.wire import PREFIX_BYTES, ChannelMessage, Prefix, pack, unpack_header

PIECE_BYTES: Final = 1024 * 1024
_FIRST_RETRY_S: Final = 0.02
_LONGEST_RETRY_S: Final = 0.5
_SAY_AGAIN_S: Final = 60.0

ML_PROGRAM: Final = "The ML program"
SL_SIDECAR: Final = "The SL sidecar"

Sink = Callable[[memoryview], object]


class StreamedBytes(Protocol):
    """Bytes that are made while they are sent: each piece is valid until the next one is requested."""

    def __len__(self) -> int:
        """Bytes of all pieces."""

    def __iter__(self) -> Iterator[memoryview]:
        """The pieces."""


Data = memoryview | StreamedBytes


class Channel:
    """One end of an open pair of pipes. One thread may ``receive`` while another one ``send``s.

    Raises ChannelClosed when the other end is gone, Interrupted after ``interrupt()``, WireError for bytes that are no
    message. After any of these the channel can only be closed.
    """

    def __init__(self, peer: str, read_fd: int, write_fd: int, wake: "Wake | None" = None) -> None:
        """Takes over both descriptors; ``wake`` interrupts it too, besides its own ``interrupt()``."""
        self.peer = peer
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._pages = PipeWriter(write_fd)
        self._own_wake = Wake()
        self._wakes = [self._own_wake] if wake is None else [self._own_wake, wake]
        self._unread = 0  # bytes of the last message's body that are still in the pipe
        self._buffer: memoryview | None = None

    def receive(self, doing: str) -> tuple[ChannelMessage, int]:
        """Waits for the next message; returns it and the size of its body in bytes, which ``read_body*`` must read
        next.

        ``doing`` completes the error text "The SL sidecar ended while ...".
        """
        if self._unread:
            raise WireError(problem=f"{self._unread} bytes of the last body were not read")
        prefix = Prefix.unpack(self._read_exactly(PREFIX_BYTES, doing))
        message = unpack_header(prefix.kind, self._read_exactly(prefix.header_size, doing))
        self._unread = prefix.body_size
        return message, prefix.body_size

    def read_body(self, sink: Sink, doing: str) -> None:
        """Passes the body to ``sink`` in pieces of up to 1 MiB, in one buffer that is reused for each."""
        if self._buffer is None:
            self._buffer = memoryview(bytearray(PIECE_BYTES))
        while self._unread:
            count = self._read_some(self._buffer[: self._unread], doing)
            self._unread -= count
            sink(self._buffer[:count])

    def read_body_into(self, buffer: memoryview, doing: str) -> None:
        """Reads the body into ``buffer``, which must have exactly its size."""
        if len(buffer) != self._unread:
            raise StreamError(problem=f"it has {self._unread} bytes, but {len(buffer)} are expected")
        self._read_fully(buffer, doing)
        self._unread = 0

    def send(self, message: ChannelMessage, body: Iterable[Data] = (), *, doing: str) -> None:
        """Writes a message and its body. Memoryviews are not copied: they must not change until the other end has read
        them, which its answer shows.
        """
        pieces = [piece for piece in body if len(piece)]
        self._write(memoryview(pack(message, sum(len(piece) for piece in pieces))), doing)
        for piece in pieces:
            if isinstance(piece, memoryview):
                self._write(piece, doing)
            else:
                for part in piece:
                    self._write(part, doing, copied=True)

    def send_file(self, message: ChannelMessage, path: Path, *, doing: str) -> None:
        """Writes a message with the whole file as its body; the kernel moves the bytes."""
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            self._write(memoryview(pack(message, size)), doing)
            offset = 0
            while offset < size:
                offset += self._send_from(file.fileno(), offset, size - offset, doing)

    def interrupt(self) -> None:
        """Ends every wait of this end, now and later, with Interrupted. May be called from any thread."""
        self._own_wake.set()

    def close(self) -> None:
        """Closes both pipes; the other end notices. If another thread reads or writes, interrupt it first."""
        for fd in (self._write_fd, self._read_fd):
            if fd >= 0:
                os.close(fd)
        self._read_fd = self._write_fd = -1
        self._own_wake.close()

    def _read_exactly(self, size: int, doing: str) -> bytearray:
        data = bytearray(size)
        self._read_fully(memoryview(data), doing)
        return data

    def _read_fully(self, buffer: memoryview, doing: str) -> None:
        while len(buffer):
            buffer = buffer[self._read_some(buffer, doing) :]

    def _read_some(self, buffer: memoryview, doing: str) -> int:
        # No event is requested for the writing end: the kernel always reports POLLERR when its reader is gone.
        ready = _poll({self._read_fd: select.POLLIN, self._write_fd: 0}, self._wakes, doing)
        if ready.get(self._read_fd, 0) & select.POLLIN and (count := os.readv(self._read_fd, [buffer])):
            return count
        raise ChannelClosed(peer=self.peer, doing=doing)

    def _write(self, data: memoryview, doing: str, *, copied: bool = False) -> None:
        data = data.cast("B")
        while len(data):
            try:
                piece = data[:PIECE_BYTES]
                data = data[os.write(self._write_fd, piece) if copied else self._pages.write(piece) :]
            except BlockingIOError:
                self._wait_writable(doing)
            except BrokenPipeError:
                raise ChannelClosed(peer=self.peer, doing=doing) from None

    def _send_from(self, file_fd: int, offset: int, left: int, doing: str) -> int:
        try:
            count = os.sendfile(self._write_fd, file_fd, offset, min(left, PIECE_BYTES))
        except BlockingIOError:
            self._wait_writable(doing)
            return 0
        except BrokenPipeError:
            raise ChannelClosed(peer=self.peer, doing=doing) from None
        if not count:
            raise StreamError(problem=f"the file to send was cut short, {left} bytes are missing")
        return count

    def _wait_writable(self, doing: str) -> None:
        _poll({self._write_fd: select.POLLOUT}, self._wakes, doing)


class MLEnd(Channel):
    """The training script's end."""

    @classmethod
    def connect(cls, request: Path, response: Path, waiting: Callable[[str], object]) -> Self:
        """Opens the pipes that the SL creates, waiting for it as long as it takes; if it must wait, ``waiting`` gets a
        sentence at once and then every minute.

        Raises ChannelError if a path is no pipe or may not be opened, PipesInUse if another program uses the pipes.
        """
        read_fd = _patiently(response, os.O_RDONLY, waiting)
        try:
            write_fd = _patiently(request, os.O_WRONLY, waiting)
            try:
                _take(write_fd, request)
            except BaseException:
                os.close(write_fd)
                raise
        except BaseException:
            os.close(read_fd)
            raise
        end = cls(SL_SIDECAR, read_fd, write_fd)
        _ends.add(end)
        return end


_ends: "weakref.WeakSet[MLEnd]" = weakref.WeakSet()


def _leave_to_the_parent() -> None:
    """In a forked child (DataLoader workers, a pool), closes the pipes: open, they would hide the parent's death."""
    for end in [*_ends]:
        end.close()
    _ends.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)


class SLListener:
    """The SL's side before an ML program connects: creates the pipes, waits, returns one Channel per session.

    The request pipe stays open for reading from the start, so that an ML program never finds it without an SL.
    """

    def __init__(self, request: Path, response: Path) -> None:
        """Creates both pipes (mode 0600), or uses existing ones. Raises ChannelError."""
        self.request = request
        self.response = response
        for path in (request, response):
            _make_pipe(path)
        self._wake = Wake()
        self._request_fd = _open(request, os.O_RDONLY)

    def accept(self) -> Channel:
        """Waits until an ML program has written its first bytes.

        Raises ChannelClosed if it opened the pipe and closed it without writing, Interrupted after ``interrupt()``.
        """
        if self._request_fd < 0:  # the previous session took it over
            self._request_fd = _open(self.request, os.O_RDONLY)
        doing = "its session was about to open"
        ready = _poll({self._request_fd: select.POLLIN}, [self._wake], doing)
        read_fd, self._request_fd = self._request_fd, -1
        try:
            if not ready[read_fd] & select.POLLIN:
                raise ChannelClosed(peer=ML_PROGRAM, doing=doing)
            write_fd = _open(self.response, os.O_WRONLY)
        except BlockingIOError:
            os.close(read_fd)
            raise ChannelClosed(peer=ML_PROGRAM, doing=doing) from None
        except BaseException:
            os.close(read_fd)
            raise
        return Channel(ML_PROGRAM, read_fd, write_fd, self._wake)

    def interrupt(self) -> None:
        """Ends ``accept`` and every wait of the channels it returned. May be called from any thread."""
        self._wake.set()

    def close(self) -> None:
        """Removes the pipes. To be called after the sessions are closed."""
        if self._request_fd >= 0:
            os.close(self._request_fd)
            self._request_fd = -1
        self._wake.close()
        for path in (self.request, self.response):
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Wake:
    """Lets another thread end a wait. It is a pipe, as some sandboxes forbid eventfd."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def set(self) -> None:
        with self._lock:  # after close() the number may belong to another file
            if self.fd >= 0:
                with contextlib.suppress(BlockingIOError):  # it is full, so the wait ends anyway
                    os.write(self._write_fd, b"\0")

    def close(self) -> None:
        with self._lock:
            if self.fd >= 0:
                os.close(self.fd)
                os.close(self._write_fd)
            self.fd = -1


def _poll(watched: dict[int, int], wakes: list[Wake], doing: str) -> dict[int, int]:
    """Waits for events; returns them by descriptor. Raises Interrupted."""
    poller = select.poll()
    for fd, events in watched.items():
        poller.register(fd, events)
    for wake in wakes:
        poller.register(wake.fd, select.POLLIN)
    while True:
        ready = dict(poller.poll())
        if any(wake.fd in ready for wake in wakes):
            raise Interrupted(doing=doing)
        ready = {fd: events for fd, events in ready.items() if events != select.POLLHUP or _is_hung_up(fd)}
        if ready:
            return ready


def _is_hung_up(fd: int) -> bool:
    """Whether nobody has a pipe open for writing any more, and nothing is left in it.

    While somebody opens it, Linux may report that for a moment: it counts that it was opened before it counts the
    writer, and poll() takes no lock. A request for the size waits for the lock that the opening holds.
    """
    fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return dict(poller.poll(0)).get(fd) == select.POLLHUP


def _make_pipe(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if not stat.S_ISFIFO(path.lstat().st_mode):
            raise ChannelError(path=path, problem="it is there already and is no pipe") from None
    except OSError as error:
        problem = str(error.strerror)
        if error.errno in (errno.ENOTSUP, errno.EPERM, errno.ENOSYS):
            problem = f"the file system of {path.parent} has no named pipes ({problem})"
        raise PipeNotMade(path=path, problem=problem) from None


def _open(path: Path, mode: int) -> int:
    """Opens a pipe's end, non-blocking. Raises FileNotFoundError, ChannelError, BlockingIOError if nobody reads it."""
    try:
        fd = os.open(path, mode | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ENXIO:  # opened for writing, and nobody reads
            raise BlockingIOError from None
        if error.errno == errno.EACCES:
            raise ChannelError(path=path, problem=_not_allowed(path)) from None
        raise ChannelError(path=path, problem=f"it cannot be opened ({error.strerror})") from None
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise ChannelError(path=path, problem="it is no pipe")
    with contextlib.suppress(OSError):  # above the user's limit the pipe keeps its size
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIECE_BYTES)
    return fd


def _not_allowed(path: Path) -> str:
    """Names the refused user and the owner: with containers of different users, a person sees only one of them."""
    for shown in (path, *path.parents):
        with contextlib.suppress(PermissionError):
            found = shown.stat()
            break
    at = "it" if shown == path else shown
    return (
        f"user {os.geteuid()} may not open it, as {at} belongs to user {found.st_uid}, group {found.st_gid}, with mode "
        f"{stat.S_IMODE(found.st_mode):04o}; run the SL and the ML program as one user"
    )


def _take(fd: int, path: Path) -> None:
    """Makes this the only program on these pipes, by a lock. The kernel releases it when the process ends, even if
    forked children still hold the descriptors. Raises PipesInUse.
    """
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise PipesInUse(path=path, pid=_holder(fd)) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EINVAL, errno.ENOTSUP):  # a file system without locks
            raise


def _holder(fd: int) -> str:
    """The process that holds the lock, read by Linux's struct flock; 0 if the kernel cannot name it here."""
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    return str(struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, asked))[4])


def _patiently(path: Path, mode: int, waiting: Callable[[str], object]) -> int:
    """Opens a pipe as soon as the SL has created it and, for writing, has opened it to read."""
    retry = _FIRST_RETRY_S
    say_next = 0.0
    while True:
        try:
            return _open(path, mode)
        except (FileNotFoundError, BlockingIOError):
            if time.monotonic() >= say_next:
                waiting(f"Waiting for the SL sidecar to open {path}")
                say_next = time.monotonic() + _SAY_AGAIN_S
        threading.Event().wait(retry)  # no event tells when a file or a reader appears
        retry = min(2 * retry, _LONGEST_RETRY_S)
