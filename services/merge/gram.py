"""Distances between sets: one pass over all floats gives every distance between their affine combinations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.merge.floats import Values
from services.merge.scratch import give, take

Matrix = NDArray[np.float64]

# One product takes this many coordinates; a set's row of them is 128 KiB of float64.
STEP_ELEMENTS = 16_384
# Up to this size OpenBLAS multiplies on the calling thread: our threads are enough, and the order of sums is fixed.
SMALL_PRODUCT = 65_536 * 4

# Scaled by 2**-540, the square of any finite float64 is finite, and so is the sum of many.
DOWN_SCALE = 2.0**-540
# The sum of a few products of this size is finite too.
LARGEST_PRODUCT = 2.0**1016
# Rounding error relative to a squared distance above which the centre counts as badly chosen.
_PRECISION = 1e-10
# Ratio of squared distances that is worth another pass over the data; not reached if all sets are honest.
_MUCH_NEARER = 16
# Relative to the terms of a square: what rounding may leave instead of 0.
_NOISE = 1e-13


@dataclass(frozen=True)
class Gram:
    """``products[i, j]`` is the inner product of sets i and j after subtracting the set ``centre`` from both; float64,
    (n, n).
    """

    products: Matrix
    centre: int

    def squared_distances(self) -> Matrix:
        """Squared distances between all sets, (n, n)."""
        norms = np.diagonal(self.products)
        squares = norms[:, None] + norms[None, :] - 2 * self.products
        squares[squares <= _NOISE * (norms[:, None] + norms[None, :])] = 0
        np.fill_diagonal(squares, 0)
        return squares

    def distances_from(self, shares: Matrix) -> Matrix:
        """Distances from the combination with these shares, (n,) with sum 1, to each set, (n,); 0 if only noise is
        left.
        """
        apart = shares[None, :] - np.eye(len(shares))
        # Multiplied by one share at a time: the square of a distant set's share may be too small for a float64.
        terms = apart[:, :, None] * self.products * apart[:, None, :]
        squares = terms.sum(axis=(1, 2))
        squares[squares <= _NOISE * np.abs(terms).sum(axis=(1, 2))] = 0
        return np.asarray(np.sqrt(squares))

    def better_centre(self, weights: Sequence[int]) -> int:
        """The set that is near to most of the weight; or the present centre if that loses no digits.

        From a distant centre, sets near each other cannot be told apart, so the answer may be another outlier: ask
        again with what is measured from there.
        """
        squares = self.squared_distances()
        middles = np.array([near_half(row, np.asarray(weights, np.float64)) for row in squares])
        best = int(np.argmin(middles))
        lost = np.finfo(np.float64).eps * float(np.diagonal(self.products).max())
        moves = lost > _PRECISION * float(middles[best]) and _MUCH_NEARER * middles[best] < middles[self.centre]
        return best if moves else self.centre


def near_half(distances: Matrix, weights: Matrix) -> float:
    """The distance (or square) within which half of the weight lies: outliers do not raise it, however distant.

    ``distances``, ``weights``: (n,).
    """
    order = np.argsort(distances)
    rank = int(np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2))
    return float(distances[order[rank]])


class GramSum:
    """Adds up the Gram matrix of ``count`` sets, block by block. Sums are made in steps of fixed size and order.

    The centre is subtracted from every set in float64 before any product, so that a large common offset costs no
    digits; products are summed in float64.
    """

    def __init__(self, count: int, centre: int, scale: float) -> None:
        self._order = [centre, *(index for index in range(count) if index != centre)]
        self._scale = scale
        self._filled = 0
        width = STEP_ELEMENTS
        while width > 64 and count * count * width > SMALL_PRODUCT:
            width //= 2
        self._room = take(count * STEP_ELEMENTS, np.float64)
        self._rows = self._room.reshape(count, STEP_ELEMENTS)
        parts = self._rows.reshape(count, STEP_ELEMENTS // width, width).transpose(1, 0, 2)
        # The centre's row, all zeros, is on one side only: BLAS would multiply a matrix by its own transpose with syrk,
        # which takes four times as long as gemm on these shapes.
        self._left, self._right = parts, parts[:, 1:].transpose(0, 2, 1)
        self._products = np.empty((STEP_ELEMENTS // width, count, count - 1))
        self._total = np.zeros((count, count))

    def add(self, blocks: Sequence[Values]) -> None:
        """Adds one flat block of each set."""
        ordered = [blocks[index] for index in self._order]
        start = 0
        while start < len(ordered[0]):
            take = min(STEP_ELEMENTS - self._filled, len(ordered[0]) - start)
            for row, block in zip(self._rows, ordered, strict=True):
                row[self._filled : self._filled + take] = block[start : start + take]
            start += take
            self._filled += take
            if self._filled == STEP_ELEMENTS:
                self._multiply()

    def total(self) -> Matrix:
        """The Gram matrix, (count, count), in the order of the sets; not finite if an input is not, or if a square
        exceeds float64.

        To be called once, at the end.
        """
        if self._filled:
            self._rows[:, self._filled :] = 0
            self._multiply()
        give(self._room)
        total = np.empty_like(self._total)
        total[np.ix_(self._order, self._order)] = self._total
        return total

    def _multiply(self) -> None:
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            if self._scale != 1:
                self._rows *= self._scale
            self._rows[1:] -= self._rows[0]
            self._rows[0] = 0
            np.matmul(self._left, self._right, out=self._products)
            self._total[:, 1:] += self._products.sum(axis=0)
        self._filled = 0


def added(parts: Iterable[Matrix], count: int) -> Matrix:
    """The sum of the parts, (count, count) each, in their order. Raises ValueError for other shapes."""
    total = np.zeros((count, count))
    with np.errstate(over="ignore", invalid="ignore"):
        for part in parts:
            if part.shape != total.shape:
                raise ValueError(f"a part of a Gram matrix of {count} sets has the shape {part.shape}")
            total += part
    return total
