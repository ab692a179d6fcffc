"""A stream that is put together from segments, in any order and from anybody: each is checked before it counts."""

import hashlib
import mmap
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Self

from swarm_callback.digest import LENGTH_BYTES, MAX_HEADER_BYTES, SEGMENT_BYTES, combine
from swarm_callback.errors import StreamError


class WrongSegment(Exception):
    """Not the bytes that the digest names."""


@dataclass(frozen=True)
class Manifest:
    """What a digest is made of. ``layout``: SHA-256 of the header; ``segments``: of each part of the body."""

    size: int
    header_size: int
    layout: bytes
    segments: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        return combine(self.layout, list(self.segments)).hex()

    @property
    def consistent(self) -> bool:
        """Whether the sizes agree with each other."""
        body = self.size - self.header_size
        header = self.header_size - LENGTH_BYTES
        return 0 <= header <= MAX_HEADER_BYTES and body >= 0 and count_of(body) == len(self.segments)

    def described(self) -> dict[str, object]:
        """For JSON."""
        return {
            "size": self.size,
            "layout": self.layout.hex(),
            "header_size": self.header_size,
            "segments": [segment.hex() for segment in self.segments],
        }

    @classmethod
    def read(cls, described: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError, ValueError where it is none."""
        segments = tuple(bytes.fromhex(segment) for segment in described["segments"])
        size, header_size = int(described["size"]), int(described["header_size"])
        manifest = cls(size, header_size, bytes.fromhex(described["layout"]), segments)
        if not manifest.consistent:
            raise ValueError("its sizes do not agree")
        return manifest


def count_of(body_size: int) -> int:
    """Number of segments of a body."""
    return -(-body_size // SEGMENT_BYTES)


class Partial:
    """``path`` is as long as the stream from the start, and sparse. Methods may be called from any thread.

    ``expected``: the hash of each segment, None where it is not known yet.
    """

    def __init__(self, path: Path, size: int, header: bytes, expected: Sequence[bytes | None]) -> None:
        self.path = path
        self.size = size
        self.header_size = len(header)
        self.header = header
        self.layout = hashlib.sha256(header).digest()
        self.expected = list(expected)
        self.users = 0
        self._have = bytearray(len(self.expected))
        self._missing = len(self.expected)
        self._lock = Lock()
        self._map: mmap.mmap | None = None
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._file, size)
        os.pwrite(self._file, header, 0)

    @property
    def count(self) -> int:
        return len(self.expected)

    @property
    def complete(self) -> bool:
        return not self._missing

    def manifest(self) -> Manifest | None:
        """None while a hash is not known."""
        segments = tuple(segment for segment in self.expected if segment is not None)
        if len(segments) < self.count:
            return None
        return Manifest(self.size, self.header_size, self.layout, segments)

    def has(self, index: int) -> bool:
        return bool(self._have[index])

    def lacks(self, indices: Iterable[int]) -> bool:
        return not all(self._have[index] for index in indices)

    def there_until(self, start: int, stop: int) -> int:
        """How far these bytes of the stream are there without a gap; ``start`` if the first is not."""
        index = max(0, start - self.header_size) // SEGMENT_BYTES
        while index < self.count and self._have[index] and self.start_of(index) < stop:
            index += 1
        return max(start, min(stop, self.start_of(index)))

    def size_of(self, index: int) -> int:
        """Bytes of one segment."""
        return min(SEGMENT_BYTES, self.size - self.start_of(index))

    def start_of(self, index: int) -> int:
        """Where in the stream it begins."""
        return self.header_size + index * SEGMENT_BYTES

    def know(self, index: int, segment: bytes) -> bool:
        """The hash that this segment must have. False where another one is here, which is dropped."""
        with self._lock:
            sound = not self._have[index] or self.expected[index] == segment
            self.expected[index] = segment
            if not sound:
                self._have[index] = 0
                self._missing += 1
        return sound

    def put(self, index: int, data: memoryview) -> bytes:
        """Takes a segment, and gives its hash. Where none is known yet it is believed for now: a result is checked in
        whole against its digest. Raises WrongSegment, OSError.
        """
        found = hashlib.sha256(data).digest()
        with self._lock:
            if self.expected[index] not in (None, found):
                raise WrongSegment
            self.expected[index] = found
        self._write(index, data)
        return found

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes of the body, not copied; what is not there yet reads as zeros. Raises OSError."""
        with self._lock:
            if self._map is None:
                self._map = mmap.mmap(self._file, self.size, access=mmap.ACCESS_READ)
        return memoryview(self._map)[self.header_size + start : self.header_size + stop]

    def done_with(self, start: int, stop: int) -> None:
        """These bytes of the body are not looked at again soon; see ``let_go``."""
        if self._map is not None:
            let_go(self._map, self.header_size + start, self.header_size + stop)

    def recheck(self) -> None:
        """Takes over the segments that an earlier start of this node left in the file. Raises OSError."""
        buffer = memoryview(bytearray(SEGMENT_BYTES))
        for index, expected in enumerate(self.expected):
            view = buffer[: self.size_of(index)]
            if os.preadv(self._file, [view], self.start_of(index)) == len(view):
                self._count(index, hashlib.sha256(view).digest() == expected)

    def expect(self, manifest: Manifest) -> bool:
        """Makes this the stream of ``manifest``; what does not belong to it is dropped. False where it cannot be it."""
        with self._lock:
            if (manifest.size, manifest.layout, len(manifest.segments)) != (self.size, self.layout, self.count):
                return False
            for index, segment in enumerate(manifest.segments):
                if self.expected[index] != segment and self._have[index]:
                    self._have[index] = 0
                    self._missing += 1
            self.expected = list(manifest.segments)
            return True

    def rename(self, path: Path) -> None:
        """Raises OSError."""
        self.path = self.path.rename(path)

    def open(self) -> BinaryIO:
        """To be read by somebody, also while and after it becomes a stream. Raises OSError."""
        return open(self.duplicate(), "rb", buffering=0)  # noqa: PTH123  # not a path

    def duplicate(self) -> int:
        """A descriptor of the caller's own. Raises OSError."""
        return os.dup(self._file)

    def close(self) -> None:
        """Of no use from now on. What ``view`` gave stays valid."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, index: int, data: memoryview) -> None:
        position = self.start_of(index)
        while data:
            written = os.pwrite(self._file, data, position)
            data, position = data[written:], position + written
        self._count(index, True)

    def _count(self, index: int, there: bool) -> None:
        with self._lock:
            if there and not self._have[index]:
                self._have[index] = 1
                self._missing -= 1


def mapped(path: Path) -> mmap.mmap:
    """The whole file, to be read. Raises OSError."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def let_go(content: mmap.mmap, start: int, stop: int) -> None:
    """The pages of these bytes leave this process's memory; the kernel still has them, where there is room."""
    first = start - start % mmap.PAGESIZE
    content.madvise(mmap.MADV_DONTNEED, first, stop - first)


def header_of(manifest: Manifest, header: bytes) -> bytes:
    """The header, if it is the one of ``manifest``. Raises StreamError."""
    length = int.from_bytes(header[:LENGTH_BYTES], "little")
    if len(header) != LENGTH_BYTES + length or hashlib.sha256(header).digest() != manifest.layout:
        raise StreamError(problem="its header is not the one that its digest names")
    return header
