"""Rounds floats to the 8 significant bits that bfloat16 holds, so that they can be sent in half the bytes.

Rounds half to even (IEEE 754-2019, section 4.3.1). The dtype and so the range stay: a float64 keeps its exponent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swarm_callback.params import parse_header, stream_size

# Small enough that intermediate results stay in the cache.
_BLOCK_ELEMENTS = 16 * 1024
_PIECE_ELEMENTS = 4 * _BLOCK_ELEMENTS


@dataclass(frozen=True)
class _RoundedForm:
    """``drop``: bits that become 0; ``too_large``: the magnitude from which rounding would give infinity."""

    bits: str
    drop: int
    magnitude: int
    too_large: int
    infinity: int


_FORMS = {
    "F32": _RoundedForm("<u4", 16, 0x7FFF_FFFF, 0x7F7F_8000, 0x7F80_0000),
    "F64": _RoundedForm("<u8", 45, 0x7FFF_FFFF_FFFF_FFFF, 0x7FEF_F000_0000_0000, 0x7FF0_0000_0000_0000),
}


def round_in_place(dtype: str, values: npt.NDArray[Any]) -> None:
    """Rounds contiguous ``values`` of F32 or F64; other dtypes, NaN and infinity stay as they are. Finite values stay
    finite.
    """
    form = _FORMS.get(dtype)
    if form is None:
        return
    bits = values.view(form.bits)
    one = bits.dtype.type(1)
    drop, half = bits.dtype.type(form.drop), bits.dtype.type((1 << form.drop - 1) - 1)
    for start in range(0, len(bits), _BLOCK_ELEMENTS):
        part = bits[start : start + _BLOCK_ELEMENTS]
        coarse = part >> drop
        coarse &= one
        coarse += half
        coarse += part
        coarse >>= drop
        coarse <<= drop
        magnitude = part & bits.dtype.type(form.magnitude)
        if magnitude.max(initial=0) >= form.too_large:
            large = magnitude >= form.too_large
            finite = magnitude < form.infinity
            coarse[large] = np.where(finite, part >> drop << drop, part)[large]
        part[:] = coarse


class Rounded:
    """The data of one tensor, rounded piece by piece while it is read, without a copy of the whole.

    A piece is valid until the next one is requested.
    """

    def __init__(self, dtype: str, data: memoryview) -> None:
        """``dtype``: F32 or F64."""
        self._dtype = dtype
        self._data = data

    def __len__(self) -> int:
        """Bytes of all pieces."""
        return len(self._data)

    def __iter__(self) -> Iterator[memoryview]:
        values = np.frombuffer(self._data, _FORMS[self._dtype].bits)
        buffer = np.empty(min(_PIECE_ELEMENTS, len(values)), values.dtype)
        for start in range(0, len(values), _PIECE_ELEMENTS):
            piece = buffer[: len(values) - start]
            np.copyto(piece, values[start : start + _PIECE_ELEMENTS])
            round_in_place(self._dtype, piece)
            yield piece.view(np.uint8).data


def rounded(header: bytes, data: Sequence[memoryview]) -> list[memoryview | Rounded]:
    """The data of a stream, as ``params.encode`` gives it, with F32 and F64 rounded."""
    specs = parse_header(header, stream_size(header, data))
    return [
        Rounded(spec.dtype, piece) if spec.dtype in _FORMS and piece else piece
        for spec, piece in zip(specs, data, strict=True)
    ]
