"""A stream that is put together from segments, in any order and from any node; each is checked before it counts."""

import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Lock
from typing import Annotated, BinaryIO, ClassVar, Self

from pydantic import ConfigDict, Field, TypeAdapter

from swarm_callback.digest import LENGTH_BYTES, MAX_HEADER_BYTES, SEGMENT_BYTES, combine
from swarm_callback.errors import StreamError


class WrongSegment(Exception):
    """A segment is not the one that the digest names."""


class PartialEnded(Exception):
    """The partial stream has become a stream or was given up, and accepts nothing more."""


_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Size = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True)
class _Described:
    """A manifest as it is sent."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    size: _Size
    layout: _Hash
    header_size: _Size
    segments: tuple[_Hash, ...]


_DESCRIBED = TypeAdapter(_Described)


@dataclass(frozen=True)
class Manifest:
    """What a digest is computed from. ``layout``: SHA-256 of the header; ``segments``: SHA-256 of each segment of the
    body.
    """

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
    def read(cls, text: bytes) -> Self:
        """Reads JSON, with every field checked. Raises ValueError."""
        described = _DESCRIBED.validate_json(text)
        segments = tuple(bytes.fromhex(segment) for segment in described.segments)
        manifest = cls(described.size, described.header_size, bytes.fromhex(described.layout), segments)
        if not manifest.consistent:
            raise ValueError("its sizes do not agree")
        return manifest


def count_of(body_size: int) -> int:
    """Number of segments of a body."""
    return -(-body_size // SEGMENT_BYTES)


class Partial:
    """The file at ``path`` has the stream's full size from the start, and is sparse. Methods may be called from any
    thread.

    ``expected``: the hash of each segment, None if not known yet. The file stays open until ``end`` was called and
    nobody uses it, so that no thread ever uses a descriptor that another one has closed.
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
        self._written = Condition(self._lock)
        self._being_written: set[int] = set()
        self._map: mmap.mmap | None = None
        self._ended = False
        self._steps = 0  # in progress that use the file
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, size)
        os.pwrite(self._file, header, 0)

    def hold(self) -> None:
        """Marks it as in use; until ``release`` it is not dropped."""
        with self._lock:
            self.users += 1

    def release(self) -> None:
        with self._lock:
            self.users -= 1
            self._close_when_done()

    def end(self) -> None:
        """Accepts nothing more. Views from ``view`` stay valid."""
        with self._lock:
            self._ended = True
            self._close_when_done()

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def count(self) -> int:
        return len(self.expected)

    @property
    def complete(self) -> bool:
        return not self._missing

    def manifest(self) -> Manifest | None:
        """None until all hashes are known."""
        segments = tuple(segment for segment in self.expected if segment is not None)
        if len(segments) < self.count:
            return None
        return Manifest(self.size, self.header_size, self.layout, segments)

    def has(self, index: int) -> bool:
        return bool(self._have[index])

    def lacks(self, indices: Iterable[int]) -> bool:
        return not all(self._have[index] for index in indices)

    def there_until(self, start: int, stop: int) -> int:
        """The offset up to which these bytes of the stream are here without gaps; ``start`` if the first is missing."""
        index = max(0, start - self.header_size) // SEGMENT_BYTES
        while index < self.count and self._have[index] and self.start_of(index) < stop:
            index += 1
        return max(start, min(stop, self.start_of(index)))

    def size_of(self, index: int) -> int:
        """Bytes of one segment."""
        return min(SEGMENT_BYTES, self.size - self.start_of(index))

    def start_of(self, index: int) -> int:
        """Offset of the segment in the stream."""
        return self.header_size + index * SEGMENT_BYTES

    def know(self, index: int, segment: bytes) -> bool:
        """Sets the hash that this segment must have. False if the segment here has another one; it is then dropped."""
        with self._lock:
            sound = not self._have[index] or self.expected[index] == segment
            self._expect(index, segment)
        return sound

    def put(self, index: int, data: memoryview) -> bytes:
        """Stores a segment and returns its hash. If no hash is known yet, this one is believed for now: the whole
        result is checked against its digest later. Raises WrongSegment, PartialEnded, OSError.
        """
        found = hashlib.sha256(data).digest()
        self._write(index, data, found, made=False)
        return found

    def make(self, index: int, data: memoryview) -> bytes:
        """Stores a segment that this node made itself; its hash replaces the expected one."""
        found = hashlib.sha256(data).digest()
        self._write(index, data, found, made=True)
        return found

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes of the body, not copied; missing ones read as zeros. Raises PartialEnded, OSError."""
        if self._map is None:
            with self._step() as file:
                mapped = mmap.mmap(file, self.size, access=mmap.ACCESS_READ)
            with self._lock:
                self._map = self._map or mapped
        return memoryview(self._map)[self.header_size + start : self.header_size + stop]

    def done_with(self, start: int, stop: int) -> None:
        """These bytes of the body are not needed again soon; see ``let_go``."""
        if self._map is not None:
            let_go(self._map, self.header_size + start, self.header_size + stop)

    def recheck(self) -> None:
        """Takes over the segments that an earlier start of this node left in the file. Raises PartialEnded, OSError."""
        buffer = memoryview(bytearray(SEGMENT_BYTES))
        with self._step() as file:
            for index, expected in enumerate(self.expected):
                view = buffer[: self.size_of(index)]
                if os.preadv(file, [view], self.start_of(index)) == len(view):
                    found = hashlib.sha256(view).digest()
                    if found == expected:
                        with self._lock:
                            self._count(index, found)

    def expect(self, manifest: Manifest) -> bool:
        """Makes this the stream of ``manifest``, and drops segments that differ. False if it cannot be that stream."""
        with self._lock:
            if (manifest.size, manifest.layout, len(manifest.segments)) != (self.size, self.layout, self.count):
                return False
            for index, segment in enumerate(manifest.segments):
                self._expect(index, segment)
            return True

    def rename(self, path: Path) -> None:
        """Raises OSError."""
        self.path = self.path.rename(path)

    def open(self) -> BinaryIO:
        """Opens the file to read, which stays possible when it becomes a stream. Raises PartialEnded, OSError."""
        return open(self.duplicate(), "rb", buffering=0)  # noqa: PTH123  # not a path

    def duplicate(self) -> int:
        """A duplicated descriptor, which the caller must close. Raises PartialEnded, OSError."""
        with self._step() as file:
            return os.dup(file)

    @contextmanager
    def _step(self) -> Iterator[int]:
        """Keeps the file open meanwhile. Raises PartialEnded."""
        with self._lock:
            if self._file < 0:
                raise PartialEnded
            self._steps += 1
        try:
            yield self._file
        finally:
            with self._lock:
                self._steps -= 1
                self._close_when_done()

    def _write(self, index: int, data: memoryview, found: bytes, *, made: bool) -> None:
        """Raises WrongSegment if another hash is known to be right, before the write or after it."""
        self._begin(index, found, made=made)
        position, there = self.start_of(index), False
        try:
            while data:
                written = os.pwrite(self._file, data, position)
                data, position = data[written:], position + written
            there = True
        finally:
            right = self._finish(index, found, there=there)
        if not right:
            raise WrongSegment

    def _begin(self, index: int, found: bytes, *, made: bool) -> None:
        """Reserves the segment for this writer until ``_finish``; the file stays open. Raises WrongSegment,
        PartialEnded.
        """
        with self._lock:
            while index in self._being_written:
                self._written.wait()
            if self._ended:
                raise PartialEnded
            if not made and self.expected[index] not in (None, found):
                raise WrongSegment
            self._expect(index, found)
            self._being_written.add(index)
            self._steps += 1

    def _finish(self, index: int, found: bytes, *, there: bool) -> bool:
        """Ends a write. True if the segment is written and still the expected one."""
        with self._lock:
            self._being_written.discard(index)
            self._written.notify_all()
            self._steps -= 1
            right = there and self._count(index, found)
            self._close_when_done()
        return right

    def _count(self, index: int, found: bytes) -> bool:
        """With the lock held: counts the segment as present, if it is still the expected one."""
        if self.expected[index] != found:
            return False
        if not self._have[index]:
            self._have[index] = 1
            self._missing -= 1
        return True

    def _expect(self, index: int, segment: bytes) -> None:
        """With the lock held."""
        if self._have[index] and self.expected[index] != segment:
            self._have[index] = 0
            self._missing += 1
        self.expected[index] = segment

    def _close_when_done(self) -> None:
        """With the lock held."""
        if self._ended and not (self.users or self._steps) and self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._map = None  # else the map would keep a deleted file until this object is collected


def mapped(path: Path) -> mmap.mmap:
    """Maps the whole file to read. Raises OSError."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def let_go(content: mmap.mmap, start: int, stop: int) -> None:
    """Drops the pages of these bytes from this process's memory; the kernel may still cache them."""
    first = start - start % mmap.PAGESIZE
    content.madvise(mmap.MADV_DONTNEED, first, stop - first)


def header_of(manifest: Manifest, header: bytes) -> bytes:
    """The header, if it is that of ``manifest``. Raises StreamError."""
    length = int.from_bytes(header[:LENGTH_BYTES], "little")
    if len(header) != LENGTH_BYTES + length or hashlib.sha256(header).digest() != manifest.layout:
        raise StreamError(problem="its header is not the one that its digest names")
    return header
