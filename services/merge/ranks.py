"""Methods that look at one coordinate at a time: the weighted median, and the mean without the ends."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from services.merge.floats import Values, weighted_mean
from services.merge.network import select, sort_with_weights
from services.merge.scratch import give

Combine = Callable[[Sequence[Values], Sequence[int], Values], None]


def coordmedian(blocks: Sequence[Values], weights: Sequence[int], out: Values) -> None:
    """The weighted median of each coordinate into ``out``, in its dtype, rounded once.

    The lower and the upper median are the first values, from the smallest up, at which half of the weight is reached
    and exceeded; where they differ, the result is their mean. Equal weights give ``numpy.median``. One pass.
    Source: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical
    Rates" (ICML 2018), section 4, definition 1.
    """
    if all(weight == weights[0] for weight in weights):
        ranks = frozenset({(len(blocks) - 1) // 2, len(blocks) // 2})
        found = select(blocks, ranks, ordered=False)
        _middle(found[min(ranks)], found[max(ranks)], out)
        _give_unless_input(found.values(), blocks)
    else:
        _middle(*_weighted_medians(blocks, weights), out)


def _middle(lower: Values, upper: Values, out: Values) -> None:
    if lower is upper:
        np.add(lower, out.dtype.type(0), out=out)  # -0.0 becomes 0.0: which of them a network gives is left to chance
        return
    with np.errstate(over="ignore", under="ignore"):
        np.add(lower, upper, out=out)
        np.multiply(out, out.dtype.type(0.5), out=out)
        np.add(out, out.dtype.type(0), out=out)


def _give_unless_input(found: Iterable[Values], blocks: Sequence[Values]) -> None:
    give(*(values for values in found if not any(values is block for block in blocks)))


def _weighted_medians(blocks: Sequence[Values], weights: Sequence[int]) -> tuple[Values, Values]:
    values, carried = sort_with_weights(blocks, weights)
    total = sum(weights)
    # Twice the weight up to each value, less the total: halves between the whole numbers decide, so none is met.
    above = np.full(values[0].shape, -total, np.float64)
    lower: Any = None
    upper: Any = None
    for value, weight in zip(values, carried, strict=True):
        above += 2 * weight.astype(np.float64)
        not_yet = np.copysign(np.inf, -0.5 - above).astype(value.dtype)  # infinite until half of the weight is reached
        not_past = np.copysign(np.inf, 0.5 - above).astype(value.dtype)
        lower = _least(lower, np.maximum(value, not_yet))
        upper = _least(upper, np.maximum(value, not_past))
    return lower, upper


def _least(so_far: Values | None, values: Values) -> Values:
    return values if so_far is None else np.minimum(so_far, values)


def trimmed_mean(fraction: Fraction) -> Combine:
    """The method that drops ``fraction`` (below one half) of the weight at each end of every coordinate, and takes the
    weighted mean of what is left. A set at the edge keeps the part of its weight that lies inside.

    With n equal weights and a whole number k = fraction * n, the k smallest and the k largest are dropped. One pass.
    Source: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical
    Rates" (ICML 2018), section 4, definition 2.
    """
    if not 0 <= fraction < Fraction(1, 2):
        raise ValueError(f"a trimmed mean drops at least 0 and less than 1/2 at each end, not {fraction}")

    def combine(blocks: Sequence[Values], weights: Sequence[int], out: Values) -> None:
        # In units in which the edges are whole numbers.
        scaled = [weight * fraction.denominator for weight in weights]
        edge = sum(weights) * fraction.numerator
        if all(weight == weights[0] for weight in weights):
            _trim_alike(blocks, scaled[0], edge, out)
        else:
            _trim_weighted(blocks, weights, fraction, out)
        np.add(out, out.dtype.type(0), out=out)

    return combine


def _trim_alike(blocks: Sequence[Values], weight: int, edge: int, out: Values) -> None:
    count = len(blocks)
    inside = [
        max(0, min((rank + 1) * weight, count * weight - edge) - max(rank * weight, edge)) for rank in range(count)
    ]
    ranks = [rank for rank in range(count) if inside[rank]]
    found = select(blocks, frozenset(ranks))
    weighted_mean([found[rank] for rank in ranks], [inside[rank] for rank in ranks], out)
    _give_unless_input(found.values(), blocks)


def _trim_weighted(blocks: Sequence[Values], weights: Sequence[int], fraction: Fraction, out: Values) -> None:
    values, carried = sort_with_weights(blocks, weights)
    total = sum(weights)
    edge = float(total * fraction)
    middle = values[len(values) // 2].astype(np.float64)  # sets that are equal come out as they are
    below = np.zeros(out.shape)
    result = np.zeros(out.shape)
    for value, weight in zip(values, carried, strict=True):
        inside = np.minimum(below + weight, total - edge) - np.maximum(below, edge)
        np.maximum(inside, 0, out=inside)
        with np.errstate(over="ignore", invalid="ignore"):
            result += (value - middle) * inside
        below += weight
    result /= total - 2 * edge
    np.add(result, middle, out=out, casting="same_kind")
