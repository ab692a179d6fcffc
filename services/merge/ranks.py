"""Methods that work on one coordinate at a time: the weighted median and the trimmed mean."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import numpy as np

from services.merge.floats import Values, all_finite, weighted_mean
from services.merge.network import select, sort_with_weights
from services.merge.scratch import give

# With different weights: blocks of eight sets, and what is computed from them, stay in a core's cache.
_STEP_ELEMENTS = 16_384

Combine = Callable[[Sequence[Values], Sequence[int], Values], None]


def coordmedian(blocks: Sequence[Values], weights: Sequence[int], out: Values) -> None:
    """The weighted median of each coordinate into ``out``, in its dtype, rounded once.

    The lower and the upper median are the first values, from the smallest up, at which half of the weight is reached
    and exceeded; where they differ, the result is their mean. Equal weights give ``numpy.median``. A block with NaN or
    infinity gives a result that is not finite. One pass. Source: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust
    Distributed Learning: Towards Optimal Statistical Rates" (ICML 2018), section 4, definition 1.
    """
    if all(weight == weights[0] for weight in weights):
        ranks = frozenset({(len(blocks) - 1) // 2, len(blocks) // 2})
        sound = True

        def look(values: Values) -> None:
            nonlocal sound
            sound = sound and all_finite(values)

        found = select(blocks, ranks, ordered=False, look=look)
        _middle(found[min(ranks)], found[max(ranks)], out)
        _give_unless_input(found.values(), blocks)
        if not sound:
            out[:1] = np.nan
        return
    if not all(all_finite(block) for block in blocks):
        out[:1] = np.nan
        return
    for part in _steps(len(out)):
        _weighted_median([block[part] for block in blocks], weights, out[part])


def _middle(lower: Values, upper: Values, out: Values) -> None:
    if lower is upper:
        np.add(lower, out.dtype.type(0), out=out)  # -0.0 becomes 0.0: which of them a network gives is not defined
        return
    with np.errstate(over="ignore", under="ignore"):
        np.add(lower, upper, out=out)
        np.multiply(out, out.dtype.type(0.5), out=out)
        np.add(out, out.dtype.type(0), out=out)


def _give_unless_input(found: Iterable[Values], blocks: Sequence[Values]) -> None:
    give(*(values for values in found if not any(values is block for block in blocks)))


def _steps(length: int) -> list[slice]:
    return [slice(start, min(start + _STEP_ELEMENTS, length)) for start in range(0, length, _STEP_ELEMENTS)]


def _weighted_median(blocks: Sequence[Values], weights: Sequence[int], out: Values) -> None:
    ranked = sort_with_weights(blocks, weights)
    half = sum(weights) / 2
    lightest, heaviest = sorted(weights), sorted(weights, reverse=True)
    # The values below this rank cannot reach half of the weight, whichever sets they come from.
    sure = max(rank for rank in range(len(blocks)) if sum(heaviest[:rank]) < half)
    lower, upper = ranked.keys[sure].copy(), ranked.keys[sure].copy()
    below = np.add.reduce(ranked.weights[: sure + 1])
    for rank in range(sure + 1, len(blocks)):
        if sum(lightest[:rank]) > half:
            break
        np.copyto(lower, ranked.keys[rank], where=below < half)
        np.copyto(upper, ranked.keys[rank], where=below <= half)
        below += ranked.weights[rank]
    _middle(ranked.value(lower), ranked.value(upper), out)
    ranked.give_back()


def trimmed_mean(fraction: Fraction) -> Combine:
    """The method that drops ``fraction`` (below one half) of the weight at each end of every coordinate, and takes the
    weighted mean of the rest. A set at the edge keeps the part of its weight that lies inside.

    With n equal weights and a whole number k = fraction * n, the k smallest and the k largest are dropped. One pass.
    Source: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical
    Rates" (ICML 2018), section 4, definition 2.
    """
    if not 0 <= fraction < Fraction(1, 2):
        raise ValueError(f"a trimmed mean drops at least 0 and less than 1/2 at each end, not {fraction}")

    def combine(blocks: Sequence[Values], weights: Sequence[int], out: Values) -> None:
        # In units that make the edges whole numbers, so that no part of a value beyond them is ever kept.
        scaled = [weight * fraction.denominator for weight in weights]
        edge = sum(weights) * fraction.numerator
        if all(weight == weights[0] for weight in weights):
            _trim_alike(blocks, scaled[0], edge, out)
        else:
            for part in _steps(len(out)):
                _trim_weighted([block[part] for block in blocks], weights, fraction, out[part])
        np.add(out, out.dtype.type(0), out=out)  # -0.0 becomes 0.0

    return combine


def _trim_alike(blocks: Sequence[Values], weight: int, edge: int, out: Values) -> None:
    count = len(blocks)
    inside = [
        max(0, min((rank + 1) * weight, count * weight - edge) - max(rank * weight, edge)) for rank in range(count)
    ]
    ranks = [rank for rank in range(count) if inside[rank]]
    found = select(blocks, frozenset(ranks))
    weighted_mean([found[rank] for rank in ranks], [inside[rank] for rank in ranks], out)
    # Rounding may move a mean of few values out of their range. Sums that are too large are computed again, smaller.
    # np.clip would take four times as long; which zero comes out does not matter, see the end of combine.
    within = True if all_finite(out) else np.isfinite(out)
    np.maximum(out, found[ranks[0]], out=out, where=within)
    np.minimum(out, found[ranks[-1]], out=out, where=within)
    _give_unless_input(found.values(), blocks)


def _trim_weighted(blocks: Sequence[Values], weights: Sequence[int], fraction: Fraction, out: Values) -> None:
    """Whole numbers up to 2**53 are exact in float64, so a value outside the edges has exactly no part in the sum."""
    ranked = sort_with_weights(blocks, weights)
    edge = float(sum(weights) * fraction.numerator)
    end = float(sum(weights) * fraction.denominator) - edge
    # The sum is in float64: for narrower values, its rounding never moves a result out of their range.
    kept = (np.empty_like(out), np.empty_like(out)) if out.dtype == np.float64 else None  # lowest and highest
    weight, until, since, result = (np.zeros(out.shape), np.zeros(out.shape), np.empty(out.shape), np.zeros(out.shape))
    np.copyto(since, edge)
    for key, own in zip(ranked.keys, ranked.weights, strict=True):
        value = ranked.value(key)
        weight += own
        np.clip(np.multiply(weight, fraction.denominator, out=until), edge, end, out=until)
        if kept is not None:
            np.copyto(kept[0], value, where=np.equal(since, edge))
            np.copyto(kept[1], value, where=np.greater(until, since))
        np.subtract(until, since, out=since)  # the part of its weight that lies inside
        since /= end - edge
        result += np.multiply(value, since, out=since)
        since, until = until, since
    ranked.give_back()
    if kept is not None:
        np.clip(result, *kept, out=result)
    np.copyto(out, result, casting="same_kind")
