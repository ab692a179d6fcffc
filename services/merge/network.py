"""Sorting networks, cut down to the ranks that are wanted, over whole blocks of elements."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.merge.floats import Values
from services.merge.scratch import give, take

_Block = TypeVar("_Block", bound=NDArray[Any])

_SIGN = 0x8000_0000
# The places of the halves of a 64-bit key.
_WEIGHT, _HIGH = (
    (slice(0, None, 2), slice(1, None, 2)) if sys.byteorder == "little" else (slice(1, None, 2), slice(0, None, 2))
)
# Up to this number, weights, their sums and halves of these are exact in float32.
_EXACT = 2**23
_BEFORE = -1  # all steps


@dataclass(frozen=True)
class Comparator:
    """Puts the smaller of two wires on ``low`` and the larger on ``high``; a side that is not read is not computed."""

    low: int
    high: int
    low_wanted: bool
    high_wanted: bool


@lru_cache(maxsize=256)
def network(count: int, ranks: frozenset[int], ordered: bool = True) -> tuple[Comparator, ...]:
    """Batcher's merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M) for ``count`` wires,
    without steps that do not lead to one of ``ranks``. If the ranks need not be ``ordered``, a last exchange between
    two of them is left out too.
    """
    needed = set(ranks)
    kept: list[Comparator] = []
    for low, high in reversed(list(_merge_exchange(count))):
        if not (ordered or kept) and {low, high} == needed:
            continue
        if low in needed or high in needed:
            kept.append(Comparator(low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(kept))


@lru_cache(maxsize=256)
def bounds(count: int, ranks: frozenset[int], ordered: bool = True) -> Mapping[int, tuple[int, ...]]:
    """By step of that network, the wires to check after it (-1: at the beginning): an infinity in any input shows there
    or in a result.

    Each wire is at least as large as some inputs and at most as large as others, whatever their values are. A greedy
    choice looks for the fewest wires that bound all inputs from both sides.
    """
    above, below = ([1 << wire for wire in range(count)] for _ in range(2))
    # Step, wire, and the inputs that it bounds: from above and, shifted, from below.
    found = [(_BEFORE, wire, 1 << wire | 1 << wire + count) for wire in range(count)]
    for number, step in enumerate(network(count, ranks, ordered)):
        low, high = step.low, step.high
        above[low], above[high] = above[low] & above[high], above[low] | above[high]
        below[low], below[high] = below[low] | below[high], below[low] & below[high]
        wanted = [wire for wire, side in ((low, step.low_wanted), (high, step.high_wanted)) if side]
        found += [(number, wire, above[wire] | below[wire] << count) for wire in wanted]
    left = (1 << 2 * count) - 1
    for rank in ranks:
        left &= ~(above[rank] | below[rank] << count)
    chosen: dict[int, tuple[int, ...]] = {}
    while left:
        number, wire, bounded = max(found, key=lambda entry: (entry[2] & left).bit_count())
        chosen[number] = (*chosen.get(number, ()), wire)
        left &= ~bounded
    return chosen


def _merge_exchange(count: int) -> Iterable[tuple[int, int]]:
    sorted_length = 1
    while sorted_length < count:
        distance = sorted_length
        while distance >= 1:
            for start in range(distance % sorted_length, count - distance, 2 * distance):
                for wire in range(start, start + min(distance, count - start - distance)):
                    if wire // (2 * sorted_length) == (wire + distance) // (2 * sorted_length):
                        yield wire, wire + distance
            distance //= 2
        sorted_length *= 2


def select(
    blocks: Sequence[_Block],
    ranks: frozenset[int],
    *,
    ordered: bool = True,
    look: Callable[[_Block], object] | None = None,
) -> dict[int, _Block]:
    """The values of each wanted rank (0: the smallest), element by element. If not ``ordered``, two ranks may be
    exchanged. Inputs are not changed. If one holds a NaN, so does a result. ``look`` gets intermediate blocks while
    they are in the cache: if an input holds an infinity, so does one of these or a result.

    A result is one of the inputs or a block of ``scratch``, to be given back. Whether +0.0 or -0.0 results if both
    occur is not defined: callers add 0.0.
    """
    wires = _Wires(blocks)
    watched = bounds(len(blocks), ranks, ordered) if look is not None else {}
    look = look or (lambda _: None)
    for wire in watched.get(_BEFORE, ()):
        look(wires.values[wire])
    for number, step in enumerate(network(len(blocks), ranks, ordered)):
        if step.low_wanted and step.high_wanted:
            wires.exchange(step.low, step.high)
        else:
            wires.keep(step.low, step.high, smaller=step.low_wanted)
        for wire in watched.get(number, ()):
            look(wires.values[wire])
    wires.give_back(but=ranks)
    return {rank: wires.values[rank] for rank in ranks}


class _Wires:
    """The blocks that pass through a network. Inputs are never written to; own blocks are reused."""

    def __init__(self, blocks: Sequence[NDArray[Any]]) -> None:
        self.values: list[Any] = list(blocks)
        self._own = [False] * len(blocks)
        self._free: list[NDArray[Any]] = []

    def exchange(self, low: int, high: int) -> None:
        one, other = self.values[low], self.values[high]
        smaller = self._take(one)
        np.minimum(one, other, out=smaller)
        spare = [wire for wire in (high, low) if self._own[wire]]
        larger = self.values[spare[0]] if spare else self._take(one)
        np.maximum(one, other, out=larger)
        self._free += [self.values[wire] for wire in spare[1:]]
        self.values[low], self.values[high] = smaller, larger
        self._own[low] = self._own[high] = True

    def keep(self, low: int, high: int, *, smaller: bool) -> None:
        """Keeps only one side."""
        one, other = self.values[low], self.values[high]
        spare = [wire for wire in (low, high) if self._own[wire]]
        result = self.values[spare[0]] if spare else self._take(one)
        (np.minimum if smaller else np.maximum)(one, other, out=result)
        self._free += [self.values[wire] for wire in spare[1:]]
        self._own[low] = self._own[high] = False
        wire = low if smaller else high
        self.values[wire], self._own[wire] = result, True

    def give_back(self, but: Iterable[int]) -> None:
        """All own blocks except those of the wires named."""
        give(*self._free, *(self.values[wire] for wire, own in enumerate(self._own) if own and wire not in but))

    def _take(self, like: NDArray[Any]) -> NDArray[Any]:
        return self._free.pop() if self._free else take(len(like), like.dtype)


@dataclass(frozen=True)
class Sorted:
    """Sorted ascending. ``keys``: stand for the values, and can be compared and picked from in the same way.
    ``weights``: float32 or float64, exact.
    """

    keys: Sequence[NDArray[Any]]
    weights: Sequence[NDArray[Any]]

    def value(self, key: NDArray[Any]) -> Values:
        """The values of one of the keys, or of a block picked from several."""
        return _value(key) if key.dtype == np.uint64 else key

    def give_back(self) -> None:
        if self.keys[0].dtype == np.uint64:
            give(*self.keys)


def sort_with_weights(blocks: Sequence[Values], weights: Sequence[int]) -> Sorted:
    """All values sorted element by element, each with the weight of its set."""
    if blocks[0].dtype != np.float32 or sum(weights) > _EXACT:
        # Among equal values the lighter one comes first: a result must not depend on the order of the sets.
        order = np.lexsort(
            (np.broadcast_to(np.asarray(weights)[:, None], (len(blocks), len(blocks[0]))), blocks), axis=0
        )
        carried = np.asarray(weights, np.float64)[order]
        return Sorted(list(np.take_along_axis(np.asarray(blocks), order, axis=0)), list(carried))
    keys = [_key(block, weight) for block, weight in zip(blocks, weights, strict=True)]
    found = select(keys, frozenset(range(len(keys))))
    give(*(key for key in keys if not any(key is entry for entry in found.values())))
    in_order = [found[rank] for rank in range(len(keys))]
    return Sorted(in_order, [key.view(np.float32)[_WEIGHT] for key in in_order])


def _key(block: Values, weight: int) -> NDArray[np.uint64]:
    """Integers in the order of the values, each with its weight as a float32 in the lower half."""
    key = take(len(block), np.uint64)
    halves = key.view(np.uint32)
    bits = block.view(np.uint32)
    value = halves[_HIGH]
    np.right_shift(bits.view(np.int32), 31, out=value.view(np.int32))
    np.bitwise_or(value, np.uint32(_SIGN), out=value)
    np.bitwise_xor(value, bits, out=value)
    halves[_WEIGHT] = np.float32(weight).view(np.uint32)
    return key


def _value(key: NDArray[np.uint64]) -> NDArray[np.float32]:
    bits = key.view(np.uint32)[_HIGH].copy()
    positive = bits.view(np.int32) >> 31
    bits ^= ~positive.view(np.uint32) | np.uint32(_SIGN)
    return bits.view(np.float32)
