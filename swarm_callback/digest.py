"""The digest of a parameter stream: SHA-256 over the hash of its header and the hashes of its segments.

So segments can be checked as they arrive, fetched from any holder, and hashed on several cores.
"""

import hashlib
from pathlib import Path
from typing import Final

from swarm_callback.errors import StreamError

SEGMENT_BYTES: Final = 256 * 1024
LENGTH_BYTES: Final = 8  # the header's length, little endian, precedes it
MAX_HEADER_BYTES: Final = 64 * 1024 * 1024
_READ_BYTES: Final = 1024 * 1024

Data = bytes | bytearray | memoryview


class StreamDigest:
    """Takes a stream in pieces of any size.

    ``layout``: SHA-256 of the header with its 8 length bytes. ``segments``: SHA-256 of each 256 KiB of the body,
    the last one shorter; none for an empty body. ``digest()`` = SHA-256(layout || segments), 32 bytes.
    """

    def __init__(self) -> None:
        self.size = 0  # bytes taken so far
        self.header_size = 0  # bytes of the header with its length; 0 until the first 8 bytes are in
        self._start = bytearray()
        self._layout = hashlib.sha256()
        self._segment = hashlib.sha256()
        self._room = SEGMENT_BYTES
        self._segments: list[bytes] = []

    def update(self, data: Data) -> None:
        """Takes the next bytes; raises StreamError for a header longer than 64 MiB."""
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        view = self._take_header(view)
        while len(view):
            piece = view[: self._room]
            self._segment.update(piece)
            self.size += len(piece)
            self._room -= len(piece)
            view = view[len(piece) :]
            if not self._room:
                self._close_segment()

    @property
    def layout(self) -> bytes:
        """32 bytes; raises StreamError if the header is not complete."""
        if not self.header_size or self.size < self.header_size:
            raise StreamError(problem=f"it ends after {self.size} bytes, inside its header")
        return self._layout.digest()

    @property
    def segments(self) -> list[bytes]:
        """The hashes of the segments so far, the unfinished one included."""
        open_one = [self._segment.digest()] if self._room < SEGMENT_BYTES else []
        return self._segments + open_one

    def digest(self) -> bytes:
        """32 bytes; raises StreamError if the header is not complete."""
        return combine(self.layout, self.segments)

    def _take_header(self, view: memoryview) -> memoryview:
        if not self.header_size:
            missing = LENGTH_BYTES - len(self._start)
            self._start += view[:missing]
            self.size += min(missing, len(view))
            view = view[missing:]
            if len(self._start) < LENGTH_BYTES:
                return view
            length = int.from_bytes(self._start, "little")
            if length > MAX_HEADER_BYTES:
                raise StreamError(problem=f"its header claims {length} bytes, {MAX_HEADER_BYTES} are allowed")
            self.header_size = LENGTH_BYTES + length
            self._layout.update(self._start)
        piece = view[: max(0, self.header_size - self.size)]
        self._layout.update(piece)
        self.size += len(piece)
        return view[len(piece) :]

    def _close_segment(self) -> None:
        self._segments.append(self._segment.digest())
        self._segment = hashlib.sha256()
        self._room = SEGMENT_BYTES


def combine(layout: bytes, segments: list[bytes]) -> bytes:
    """The digest from the layout and the segment hashes, 32 bytes each."""
    return hashlib.sha256(layout + b"".join(segments)).digest()


def digest_of_file(path: Path) -> StreamDigest:
    """Reads the file once, in pieces of 1 MiB."""
    taken = StreamDigest()
    buffer = memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            taken.update(buffer[:count])
    return taken
