"""The float dtypes of a stream, as what a method computes with: float32, and float64 for float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.merge.layout import Block
from services.merge.scratch import give, take

Values = NDArray[np.float32] | NDArray[np.float64]

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})

_BFLOAT16_SHIFT = 16


def computed_in(dtype: str) -> np.dtype[Any]:
    """The dtype of ``Values`` for a float dtype of a stream."""
    return np.dtype(np.float64) if dtype == "F64" else np.dtype(np.float32)


def widen(dtype: str, block: Block) -> Values:
    """The values, exactly; the block itself where it holds what a method computes with."""
    if dtype == "BF16":
        return (block.astype(np.uint32) << _BFLOAT16_SHIFT).view(np.float32)
    return block.astype(computed_in(dtype), copy=False)


def narrow(dtype: str, values: Values, target: Block) -> None:
    """Rounds to the nearest value of the dtype, halves to even, into ``target``."""
    if dtype != "BF16":
        target[:] = values
        return
    bits = values.view(np.uint32)
    # A NaN could carry over into an infinity here, which is as non-finite as before.
    target[:] = (bits + 0x7FFF + ((bits >> _BFLOAT16_SHIFT) & 1)) >> _BFLOAT16_SHIFT


def all_finite(values: Values) -> bool:
    """Whether no value is NaN or infinite. Such a value shows in the sum: only then is each looked at."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.add.reduce(values))) or bool(np.isfinite(values).all())


def weighted_mean(blocks: Sequence[Values], weights: Sequence[float], out: Values) -> None:
    """The weighted mean of flat blocks into ``out``, in their dtype; where all sets are equal, exactly what they are.

    Weights are positive: integers, or floats that add up to one (shares). Equal weights of 2, 4, 8, ... sets: the sum
    in a binary tree, and one exact division. Otherwise the set of the largest weight plus the weighted mean of
    the differences from it. With u = 2**-24 (2**-53 in float64), n sets and m the weighted mean of the absolute
    values (in the second case plus that set's value), a result is within (ceil(log2 n) + 3) * u * m. One pass.
    """
    whole = isinstance(weights[0], int)
    alike = whole and all(weight == weights[0] for weight in weights)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if len(blocks) == 1:
            np.copyto(out, blocks[0])
        elif alike and len(blocks).bit_count() == 1:
            _add_up(blocks, None, None, out)
            np.multiply(out, out.dtype.type(1 / len(blocks)), out=out)
        else:
            heaviest = max(range(len(blocks)), key=weights.__getitem__)
            others = [index for index in range(len(blocks)) if index != heaviest]
            factors = None if alike else [weights[index] for index in others]
            _add_up([blocks[index] for index in others], factors, blocks[heaviest], out)
            if whole:
                np.divide(out, out.dtype.type(len(blocks) if alike else sum(weights)), out=out)
            np.add(out, blocks[heaviest], out=out)


def _add_up(blocks: Sequence[Values], weights: Sequence[float] | None, base: Values | None, out: Values) -> None:
    """The sum of weight times block less base, the left half plus the right half."""
    if len(blocks) == 1:
        if base is not None:
            np.subtract(blocks[0], base, out=out)
        if weights is not None:
            np.multiply(out, out.dtype.type(weights[0]), out=out)
    elif len(blocks) == 2 and base is None:
        np.add(blocks[0], blocks[1], out=out)
    else:
        half = (len(blocks) + 1) // 2
        right = take(len(out), out.dtype)
        _add_up(blocks[:half], weights and weights[:half], base, out)
        _add_up(blocks[half:], weights and weights[half:], base, right)
        np.add(out, right, out=out)
        give(right)
