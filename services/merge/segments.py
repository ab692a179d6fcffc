"""How the body of a stream is cut: segments of fixed size, and the pieces of tensors that begin in each."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.merge.layout import ITEM_BYTES, Layout

# The unit of threads, of sums over distances and of sharing a merge out; the digest's segment too.
SEGMENT_BYTES = 256 * 1024


@dataclass(frozen=True)
class Piece:
    """Elements ``start`` to ``stop`` of one tensor."""

    tensor: str
    dtype: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Bytes."""
        return (self.stop - self.start) * ITEM_BYTES[self.dtype]


Segment = Sequence[Piece]


def segments(layout: Layout, segment_bytes: int = SEGMENT_BYTES) -> list[Segment]:
    """Tensor after tensor in the order of their names. An element belongs to the segment that its first byte is in."""
    found: dict[int, list[Piece]] = {}
    offset = 0
    for tensor, spec in sorted(layout.items()):
        size = ITEM_BYTES[spec.dtype]
        start = 0
        while start < spec.count:
            index = (offset + start * size) // segment_bytes
            stop = min(spec.count, -(-((index + 1) * segment_bytes - offset) // size))
            found.setdefault(index, []).append(Piece(tensor, spec.dtype, start, stop))
            start = stop
        offset += spec.count * size
    return [found[index] for index in sorted(found)]


def size_of(segment: Segment) -> int:
    """Bytes of the result."""
    return sum(piece.size for piece in segment)
