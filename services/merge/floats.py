"""The float dtypes of a stream, converted for computing: float64 for float64, float32 for the others."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.merge.layout import Block
from services.merge.scratch import give, take

Values = NDArray[np.float32] | NDArray[np.float64]
_T = TypeVar("_T")

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})

_BFLOAT16_SHIFT = 16

# In float32 a smaller factor would lose digits or become 0.
_SMALLEST_FACTOR = 2.0**-100


def computed_in(dtype: str) -> np.dtype[Any]:
    """The dtype of ``Values`` for a float dtype of a stream."""
    return np.dtype(np.float64) if dtype == "F64" else np.dtype(np.float32)


def widen(dtype: str, block: Block) -> Values:
    """The values, exactly; the block itself if it already has the dtype for computing."""
    if dtype == "BF16":
        return (block.astype(np.uint32) << _BFLOAT16_SHIFT).view(np.float32)
    return block.astype(computed_in(dtype), copy=False)


def narrow(dtype: str, values: Values, target: Block) -> None:
    """Rounds to the nearest value of the dtype, halves to even, into ``target``."""
    if dtype != "BF16":
        target[:] = values
        return
    bits = values.view(np.uint32)
    # A NaN may become any value here; a result with NaN is not used anyway.
    target[:] = (bits + 0x7FFF + ((bits >> _BFLOAT16_SHIFT) & 1)) >> _BFLOAT16_SHIFT


def all_finite(values: Values) -> bool:
    """Whether no value is NaN or infinite."""
    finite = take(len(values), np.bool_)
    np.isfinite(values, out=finite)
    sound = bool(finite.all())
    give(finite)
    return sound


def weighted_mean(blocks: Sequence[Values], weights: Sequence[float], out: Values) -> None:
    """The weighted mean of flat blocks into ``out``, in their dtype; exact for elements that are equal in all sets.

    Weights are integers > 0, or floats that add up to one (shares). Sets of equal weight are added up before the sum is
    multiplied by their share. With u = 2**-24 (2**-53 in float64), n sets and m the weighted mean of the absolute
    values, a result is within (6 * ceil(log4 n) + 3) * u * m. One pass.
    """
    if len(blocks) == 1:
        np.copyto(out, blocks[0])
        return
    total = sum(weights) if isinstance(weights[0], int) else 1.0
    far_apart = any(0 < weight / total < _SMALLEST_FACTOR for weight in weights)
    groups: dict[float, list[Values]] = {}
    for block, weight in zip(blocks, weights, strict=True):
        groups.setdefault(weight, []).append(block)
    # With 2, 4, 8, ... equal values, the sum by _add_up and the division are exact.
    exact = len(groups) == 1 and len(blocks).bit_count() == 1
    equal = None if exact else _where_equal(blocks)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if far_apart:
            _weigh_up_wide(blocks, [weight / total for weight in weights], out)
        else:
            _weigh_up([(out.dtype.type(weight / total), group) for weight, group in sorted(groups.items())], out)
    if equal is not None:
        np.copyto(out, blocks[0], where=equal)
        give(equal)


def _weigh_up_wide(blocks: Sequence[Values], shares: Sequence[float], out: Values) -> None:
    """The same in float64, for a share that float32 would lose: it still counts if the set is very distant."""
    wide = np.zeros(len(out))
    for share, block in sorted(zip(shares, blocks, strict=True), key=lambda pair: pair[0]):
        wide += np.multiply(block, share, dtype=np.float64)
    np.copyto(out, wide, casting="same_kind")


def _weigh_up(groups: Sequence[tuple[Any, Sequence[Values]]], out: Values) -> None:
    """The sum of factor times the sum of its blocks."""
    if len(groups) > 1:
        parts = _in_fours(groups)
        _weigh_up(parts[0], out)
        for part in parts[1:]:
            more = take(len(out), out.dtype)
            _weigh_up(part, more)
            np.add(out, more, out=out)
            give(more)
        return
    factor, blocks = groups[0]
    if len(blocks) == 1:
        np.multiply(blocks[0], factor, out=out)
    else:
        _add_up(blocks, out)
        np.multiply(out, factor, out=out)


def _add_up(blocks: Sequence[Values], out: Values) -> None:
    """The sum of two blocks or more: up to four are added one after the other, which is exact if they are equal; for
    more, sums of such sums.
    """
    parts = _in_fours(blocks)
    if len(parts[0]) == 1:
        np.add(blocks[0], blocks[1], out=out)
        parts = parts[2:]
    else:
        _add_up(parts[0], out)
        parts = parts[1:]
    for part in parts:
        if len(part) == 1:
            np.add(out, part[0], out=out)
        else:
            more = take(len(out), out.dtype)
            _add_up(part, more)
            np.add(out, more, out=out)
            give(more)


def _in_fours(terms: Sequence[_T]) -> list[Sequence[_T]]:
    """Two to four parts, all but the last of the same length, a power of four."""
    length = 1
    while 4 * length < len(terms):
        length *= 4
    return [terms[start : start + length] for start in range(0, len(terms), length)]


def _where_equal(blocks: Sequence[Values]) -> NDArray[np.bool_] | None:
    """A mask of the elements that are equal in all blocks, to be given back; None if there are none."""
    equal, also = take(len(blocks[0]), np.bool_), take(len(blocks[0]), np.bool_)
    np.equal(blocks[0], blocks[1], out=equal)
    some = bool(equal.any())
    for block in blocks[2:]:
        if not some:
            break
        np.equal(blocks[0], block, out=also)
        np.logical_and(equal, also, out=equal)
        some = bool(equal.any())
    give(also)
    if some:
        return equal
    give(equal)
    return None
