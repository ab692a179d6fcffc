"""Methods that work on the whole vector: they turn the distances between sets into each set's share of the result."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.merge.gram import Gram, near_half

Shares = NDArray[np.float64]
SharesOf = Callable[[Gram, Sequence[int]], Shares]

_MOST_ITERATIONS = 2_000
# A step this small, relative to the distance within which half of the weight lies, changes nothing in float32.
_TOLERANCE = 1e-11


def geomedian(gram: Gram, weights: Sequence[int]) -> Shares:
    """Shares of the weighted geometric median: the point with the smallest weighted sum of distances to the sets.

    Every candidate is an affine combination of the sets, so its distances follow from the Gram matrix and no data is
    read here. Weiszfeld's iteration starts at the best set, and stays there if that is the median. If an iterate hits a
    set, it leaves it by the rule of Vardi and Zhang. It ends when it no longer moves. Source: Vardi, Zhang, "The
    multivariate L1-median and associated data depth" (PNAS 97, 2000), section 2; used for merging: Pillutla, Kakade,
    Harchaoui, "Robust Aggregation for Federated Learning" (IEEE TSP 70, 2022), section 3. Two passes over the data in
    all: the Gram matrix, and the weighted sum.
    """
    weight = np.asarray(weights, np.float64)
    distances = np.sqrt(gram.squared_distances())
    best = _best_set(distances, weight)
    shares = np.zeros(len(weight))
    shares[best] = 1
    here = distances[best]
    for _ in range(_MOST_ITERATIONS):
        goal, hold = _weiszfeld(gram, weight, shares, here)
        if hold >= 1:
            return shares  # at an input whose pull outweighs all others
        step = (1 - hold) * (goal - shares)
        moved = _length(gram, step)
        shares = shares + step
        here = gram.distances_from(shares)
        if moved <= _TOLERANCE * (near_half(here, weight) or float(here.max())):
            break
    return np.asarray(shares / shares.sum())


def _best_set(distances: NDArray[np.float64], weight: Shares) -> int:
    """The set with the smallest weighted sum of distances. One distant set makes all sums alike: among those that
    rounding cannot tell apart, the set that is near to most of the weight.
    """
    sums = distances @ weight
    alike = np.flatnonzero(sums <= sums.min() * (1 + _TOLERANCE))
    return int(min(alike, key=lambda index: (near_half(distances[index], weight), sums[index])))


def _weiszfeld(gram: Gram, weight: Shares, shares: Shares, distances: Shares) -> tuple[Shares, float]:
    """Weiszfeld's next point over the inputs that the iterate has not hit, and how strongly the inputs that it hit hold
    it back (0: not at all, 1: it stays).
    """
    hit = distances == 0
    if hit.all():
        return shares, 1.0
    pulls = np.where(hit, 0, weight / np.where(hit, 1, distances))
    goal = pulls / pulls.sum()
    if not hit.any():
        return goal, 0.0
    apart = goal - shares
    force = pulls.sum() * _length(gram, apart)
    return goal, float(min(1, weight[hit].sum() / force)) if force else 1.0


def _length(gram: Gram, difference: Shares) -> float:
    """Length of the difference between two combinations, given as the difference of their shares."""
    return float(np.sqrt(max(float(difference @ gram.products @ difference), 0.0)))


def krum(outliers: int | None = None, keep: int = 1) -> SharesOf:
    """The method that scores each set by the sum of its squared distances to its n - outliers - 2 nearest neighbours
    and takes the ``keep`` sets of the lowest score (more than one: Multi-Krum), by default the single best.

    ``outliers`` defaults to the most that n sets can bear, (n - 3) // 2. Scores are not weighted, as in the paper; a
    set of weight 0 does not take part, several kept sets are averaged by weight, and among equal scores the first by
    name wins. With fewer than three sets no outlier can be told: all are averaged. Source: Blanchard, El Mhamdi,
    Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (NeurIPS 2017), section
    4; Multi-Krum: section 6. Two passes over the data.
    """
    if keep < 1 or (outliers is not None and outliers < 0):
        raise ValueError("krum keeps at least one set and expects at least no outlier")

    def shares_of(gram: Gram, weights: Sequence[int]) -> Shares:
        count = len(weights)
        weight = np.asarray(weights, np.float64)
        if count > 2:
            bad = (count - 3) // 2 if outliers is None else outliers
            neighbours = min(count - 1, max(1, count - bad - 2))
            scores = np.sort(gram.squared_distances(), axis=1)[:, 1 : 1 + neighbours].sum(axis=1)
            weight[np.argsort(scores, kind="stable")[keep:]] = 0
        return np.asarray(weight / weight.sum())

    return shares_of
