"""Packs a piece of a parameter stream for a slow link, without loss: the first bytes of all its elements, then the
second ones, and so on. Each of these planes is compressed by Zstandard if that helps.

Exponents are similar and compress well, mantissas are noise and do not; the zeros that rounding to bfloat16 leaves
almost vanish. The transposition is the byte shuffle of Blosc (F. Alted, "Why modern CPUs are starving and what can be
done about it", Computing in Science & Engineering 12(2), 2010).
"""

import struct
from collections.abc import Iterable
from typing import Final

import numpy as np
import zstandard

from services.merge.layout import ITEM_BYTES
from swarm_callback.params import TensorSpec

# Header of a frame: raw size, packed size, width.
FRAME: Final = struct.Struct("<IIB")
_SIZE: Final = struct.Struct("<I")

WIDTHS: Final = (1, 2, 4, 8)

# Zstandard's fastest level: a slower one costs more time than its smaller output saves.
_LEVEL: Final = 1


class Unpackable(ValueError):
    """The data is not what ``Packer`` makes."""


def width_of(specs: Iterable[TensorSpec]) -> int:
    """Bytes of an element, for the width that most bytes of the stream have; 1 for an empty one."""
    sizes = dict.fromkeys(WIDTHS, 0)
    for spec in specs:
        sizes[ITEM_BYTES[spec.dtype]] += spec.stop - spec.start
    return max(WIDTHS, key=lambda width: sizes[width])


class Packer:
    """For one thread."""

    def __init__(self) -> None:
        self._small = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False)

    def pack(self, data: memoryview, width: int) -> bytes:
        """A frame for ``Unpacker``."""
        count = len(data) // width
        planes = np.frombuffer(data, np.uint8, count * width).reshape(count, width)
        parts = []
        for number in range(width):
            plane = planes[:, number].tobytes()
            small = self._small.compress(plane)
            part = small if len(small) < len(plane) else plane
            parts += [_SIZE.pack(len(part)), part]
        body = b"".join([*parts, data[count * width :]])
        return FRAME.pack(len(data), len(body), width) + body


class Unpacker:
    """For one thread."""

    def __init__(self) -> None:
        self._large = zstandard.ZstdDecompressor()

    def unpack(self, width: int, body: memoryview, out: memoryview) -> None:
        """Fills ``out``. Raises Unpackable. Allocates nothing that is larger than ``out``."""
        if width not in WIDTHS:
            raise Unpackable(f"elements of {width} bytes")
        count = len(out) // width
        planes = np.frombuffer(out, np.uint8, count * width).reshape(count, width)
        position = 0
        for number in range(width):
            if position + _SIZE.size > len(body):
                raise Unpackable("it ends before its planes")
            (size,) = _SIZE.unpack_from(body, position)
            position += _SIZE.size
            planes[:, number] = np.frombuffer(self._plane(body[position : position + size], size, count), np.uint8)
            position += size
        tail = body[position:]
        if len(tail) != len(out) - count * width:
            raise Unpackable(f"{len(tail)} bytes are left over")
        out[count * width :] = tail

    def _plane(self, part: memoryview, size: int, count: int) -> bytes | memoryview:
        if len(part) != size or size > count:
            raise Unpackable("a plane that is none")
        if size == count:
            return part
        try:
            if zstandard.get_frame_parameters(part).content_size != count:
                raise Unpackable("a plane of another size")
            plane: bytes = self._large.decompress(part, max_output_size=count)
        except zstandard.ZstdError:
            raise Unpackable("a plane that is damaged") from None
        if len(plane) != count:
            raise Unpackable("a plane of another size")
        return plane


def limit_of(size: int) -> int:
    """Bytes of the largest packed body for a piece of ``size`` bytes."""
    return size + max(WIDTHS) * _SIZE.size
