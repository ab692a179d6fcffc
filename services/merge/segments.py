"""How the body of a stream is cut: into the digest's segments, and the pieces of tensors in each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from services.merge.layout import ITEM_BYTES, STORAGE, Block, Layout, TensorLayout

# The unit of work for threads, of sums over distances, and of shared merges; also the digest's segment.
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


@dataclass(frozen=True)
class Segment:
    """Bytes ``start`` to ``stop`` of the body. ``pieces`` hold the elements of these bytes, one after the other. An
    element that a boundary cuts is in both segments: ``before`` and ``after`` are the numbers of its bytes outside this
    one.
    """

    start: int
    stop: int
    before: int
    after: int
    pieces: Sequence[Piece]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start

    @property
    def needs(self) -> tuple[int, int]:
        """Start and end of the bytes of the body that this segment needs: up to 7 bytes more at either end."""
        return self.start - self.before, self.stop + self.after

    def cut(self, data: bytes | bytearray | memoryview) -> list[Block]:
        """The pieces of a set, flat, in the storage dtypes, from the bytes that ``needs`` names. Raises ValueError for
        another number of bytes.
        """
        room = np.frombuffer(data, np.uint8)
        if len(room) != self.before + self.size + self.after:
            raise ValueError(f"{len(room)} bytes are not what is needed of bytes {self.start} to {self.stop}")
        blocks, position = [], 0
        for piece in self.pieces:
            blocks.append(room[position : position + piece.size].view(STORAGE[piece.dtype]))
            position += piece.size
        return blocks


def segments(layout: Layout, segment_bytes: int = SEGMENT_BYTES) -> list[Segment]:
    """Cuts the tensors in the order of their names, without gaps. ``segment_bytes`` is at least 8."""
    return list(_cut(tuple(sorted(layout.items())), segment_bytes))


@lru_cache(maxsize=4)  # each round cuts the same layout again
def _cut(tensors: Sequence[tuple[str, TensorLayout]], segment_bytes: int) -> Sequence[Segment]:
    pieces: list[list[Piece]] = []
    before: list[int] = []
    offset = 0
    for tensor, spec in tensors:
        size = ITEM_BYTES[spec.dtype]
        end = offset + spec.count * size
        for index in range(offset // segment_bytes, -(-end // segment_bytes) if end > offset else 0):
            low, high = max(offset, index * segment_bytes), min(end, (index + 1) * segment_bytes)
            start, stop = (low - offset) // size, -(-(high - offset) // size)
            if index == len(pieces):
                pieces.append([])
                before.append(low - offset - start * size)
            pieces[index].append(Piece(tensor, spec.dtype, start, stop))
        offset = end
    return tuple(
        _segment(index * segment_bytes, min(offset, (index + 1) * segment_bytes), before[index], tuple(found))
        for index, found in enumerate(pieces)
    )


def _segment(start: int, stop: int, before: int, pieces: Sequence[Piece]) -> Segment:
    return Segment(start, stop, before, sum(piece.size for piece in pieces) - before - (stop - start), pieces)
