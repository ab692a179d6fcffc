"""Integers and bools of one block, for every method: exact weighted mean, halves to even; weighted majority."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.merge.layout import Block

IntegerMean = Callable[[Sequence[Block], Sequence[int]], Block]

_HALF_BITS = 32


def integer_mean(dtype: str) -> IntegerMean:
    """``mean(blocks, weights) -> block`` for an integer dtype or BOOL; all blocks are flat and of the same length.

    Weights are integers > 0 with a sum below 2**30. A bool is true if more than half of the weight is true.
    """
    if dtype == "BOOL":
        return _majority
    return _mean_of_64_bits if dtype in ("I64", "U64") else _mean_of_32_bits


def _mean_of_32_bits(blocks: Sequence[Block], weights: Sequence[int]) -> Block:
    """Up to 32 bits: weight times value, summed, fits int64."""
    total = np.zeros(blocks[0].shape, np.int64)
    for block, weight in zip(blocks, weights, strict=True):
        total += block.astype(np.int64) * weight
    return _divide(total, sum(weights)).astype(blocks[0].dtype)


def _mean_of_64_bits(blocks: Sequence[Block], weights: Sequence[int]) -> Block:
    """High and low halves are summed separately, so that every step is exact in int64."""
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
