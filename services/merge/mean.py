"""The weighted mean of one block of elements, per kind of dtype.

Floats: the sum of weight times value in float64, in the order given, divided by the sum of weights, rounded once
to the dtype (bfloat16 by way of float32). Integers: the exact mean, halves to the even neighbour. Bool: true where
more than half of the weight is true.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.generic]
Mean = Callable[[Sequence[Block], Sequence[int]], Block]

_HALF_BITS = 32


def mean_of(dtype: str) -> Mean:
    """The mean for blocks of this dtype: ``mean(blocks, weights) -> block``, all flat and equally long.

    Weights are integers >= 0 with a sum in [1, 2**30). A non-finite input gives a non-finite output there.
    """
    if dtype == "BOOL":
        return _majority
    if dtype == "BF16":
        return _mean_bfloat16
    if dtype.startswith("F"):
        return _mean_float
    return _mean_wide_integer if dtype in ("I64", "U64") else _mean_integer


def as_float(dtype: str, block: Block) -> NDArray[np.floating]:
    """The values of a float block; for bfloat16 (bits in uint16) as float32."""
    if dtype != "BF16":
        return block  # type: ignore[return-value]  # F16, F32 and F64 are held as what they are
    return (block.astype(np.uint32) << 16).view(np.float32)


def _mean_float(blocks: Sequence[Block], weights: Sequence[int]) -> Block:
    return _mean_float64(blocks, weights).astype(blocks[0].dtype)


def _mean_bfloat16(blocks: Sequence[Block], weights: Sequence[int]) -> Block:
    mean = _mean_float64([as_float("BF16", block) for block in blocks], weights)
    bits = mean.astype(np.float32).view(np.uint32)
    # Round to nearest, halves to even, as the hardware does; a NaN could carry over into an infinity here,
    # which is as non-finite as before.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _mean_float64(blocks: Sequence[Block], weights: Sequence[int]) -> NDArray[np.float64]:
    total = float(sum(weights))
    with np.errstate(over="ignore", invalid="ignore"):
        mean = _weighted_sum(blocks, weights)
        mean /= total
        lost = ~np.isfinite(mean)
        if lost.any():
            # Finite float64 values can add up to more than float64 holds: scale first, for these alone, so
            # that the other elements do not depend on their neighbours in the block.
            picked = [block[lost] for block in blocks]
            scaled = _weighted_sum(picked, [weight / total for weight in weights])
            mean[lost] = np.clip(scaled, np.minimum.reduce(picked), np.maximum.reduce(picked))
    return mean


def _weighted_sum(blocks: Sequence[Block], weights: Sequence[float]) -> NDArray[np.float64]:
    total = blocks[0].astype(np.float64)
    total *= weights[0]
    term = np.empty_like(total)
    for block, weight in zip(blocks[1:], weights[1:], strict=True):
        term[:] = block
        term *= weight
        total += term
    return total


def _mean_integer(blocks: Sequence[Block], weights: Sequence[int]) -> Block:
    """Up to 32 bits: weight times value, summed, fits int64."""
    total = np.zeros(blocks[0].shape, np.int64)
    for block, weight in zip(blocks, weights, strict=True):
        total += block.astype(np.int64) * weight
    return _divide(total, sum(weights)).astype(blocks[0].dtype)


def _mean_wide_integer(blocks: Sequence[Block], weights: Sequence[int]) -> Block:
    """64 bits: high and low halves are summed apart, so that every step is exact in int64."""
    high = np.zeros(blocks[0].shape, np.int64)
    low = np.zeros(blocks[0].shape, np.int64)
    for block, weight in zip(blocks, weights, strict=True):
        high += (block >> _HALF_BITS).astype(np.int64) * weight  # type: ignore[operator]
        low += (block & block.dtype.type(0xFFFFFFFF)).astype(np.int64) * weight  # type: ignore[operator]
    total = sum(weights)
    quotient, rest = np.divmod(high, total)
    # The mean lies between the smallest and the largest input, so the wrapped sum is the true one.
    result = quotient.astype(np.uint64) << np.uint64(_HALF_BITS)
    result += _divide((rest << _HALF_BITS) + low, total).astype(np.uint64)
    return result.view(blocks[0].dtype)


def _divide(numerator: NDArray[np.int64], divisor: int) -> NDArray[np.int64]:
    """The nearest integer, halves to even; ``divisor`` >= 1."""
    quotient, rest = np.divmod(numerator, divisor)
    twice = 2 * rest
    quotient += (twice > divisor) | ((twice == divisor) & (quotient % 2 == 1))
    return quotient


def _majority(blocks: Sequence[Block], weights: Sequence[int]) -> Block:
    in_favour = np.zeros(blocks[0].shape, np.int64)
    for block, weight in zip(blocks, weights, strict=True):
        in_favour += block.astype(np.int64) * weight
    return 2 * in_favour > sum(weights)
