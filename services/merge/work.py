"""One merge, cut into segments that may be worked on in any order, by several threads or several machines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.merge.distances import Shares
from services.merge.errors import LayoutDiffers, NothingToMerge, UnknownMethod
from services.merge.floats import FLOATS, Values, all_finite, computed_in, narrow, weighted_mean, widen
from services.merge.gram import DOWN_SCALE, Gram, GramSum, Matrix, added
from services.merge.integers import integer_mean
from services.merge.layout import STORAGE, Block, Layout, difference
from services.merge.methods import METHODS, Method
from services.merge.segments import Piece, segments, size_of

# Blocks of this size outweigh the cost of numpy's calls and of the interpreter's lock, and stay in a shared cache.
BLOCK_ELEMENTS = 65_536

# Values at a smaller scale, where a sum of them exceeds their dtype; a power of two, so exact.
_SMALL = 2.0**-64


@dataclass(frozen=True)
class ParameterSet:
    """One participant's parameters. ``tensors`` hold the storage dtype of their spec, in its shape or flat."""

    name: str
    weight: int
    layout: Layout
    tensors: Mapping[str, Block]


@dataclass(frozen=True)
class NonFinite:
    """A set that holds NaN or infinity, and the first tensor by name in which it does."""

    name: str
    tensor: str


NotFinite = tuple[NonFinite, ...]


@dataclass(frozen=True)
class Plan:
    """What the second pass needs to know of the first: each voting set's share; None for a method of one pass."""

    shares: Shares | None = None


class Work:
    """The merge of ``sets``, taken in the order of their names; sets of weight 0 are only looked at.

    ``len(work.segments)`` segments; of each, ``measure`` (methods of two passes only) and then ``combine`` depend on
    nothing but the bytes of that segment and the plan, so that they may be done anywhere. Both are thread-safe.
    Raises UnknownMethod, NothingToMerge, LayoutDiffers.
    """

    def __init__(self, method: str, sets: Sequence[ParameterSet], block_elements: int = BLOCK_ELEMENTS) -> None:
        self.method = method_named(method)
        self._sets = _checked(sets)
        self._voters = [index for index, entry in enumerate(self._sets) if entry.weight]
        self._weights = [self._sets[index].weight for index in self._voters]
        self._block_elements = block_elements
        self._flat = {
            tensor: [entry.tensors[tensor].reshape(-1) for entry in self._sets] for tensor in self._sets[0].layout
        }
        self.segments = segments(self._sets[0].layout)

    @property
    def measures(self) -> bool:
        """Whether the distances between the sets matter: a method of two passes, and more than one set with weight."""
        return self.method.shares is not None and len(self._voters) > 1

    def measure(self, index: int, centre: int = 0, scale: float = 1.0) -> tuple[Matrix, NotFinite]:
        """The Gram matrix over one segment's floats, and the sets that hold NaN or infinity there."""
        total = GramSum(len(self._voters), centre, scale)
        for piece in self.segments[index]:
            if piece.dtype in FLOATS:
                for start, stop in self._blocks(piece):
                    blocks = [self._flat[piece.tensor][voter][start:stop] for voter in self._voters]
                    total.add([widen(piece.dtype, block) for block in blocks])
        matrix = total.total()
        return matrix, () if np.isfinite(matrix).all() else self._look_for_non_finite(index)

    def settle(self, parts: Sequence[Matrix], centre: int = 0) -> Plan | tuple[int, float]:
        """The plan, from what ``measure`` gave for each segment, in their order; or the centre and the scale with
        which all must be measured once more, because rounding or overflow has eaten what matters.
        """
        products = added(parts, len(self._voters))
        if not np.isfinite(products).all():
            return centre, DOWN_SCALE
        gram = Gram(products, centre)
        better = gram.better_centre()
        if better != centre and centre == 0:
            return better, 1.0
        return self.plan(gram)

    def plan(self, gram: Gram | None = None) -> Plan:
        """``gram`` is needed by a method that ``measures``."""
        if self.method.shares is None:
            return Plan()
        if gram is None:
            return Plan(np.ones(1))
        return Plan(np.asarray(self.method.shares(gram, self._weights), np.float64))

    def combine(self, index: int, plan: Plan, out: memoryview) -> NotFinite:
        """Writes one segment of the result; where something is returned, what was written is none."""
        room = np.frombuffer(out, np.uint8)
        position = 0
        found: dict[str, str] = {}
        for piece in self.segments[index]:
            target = room[position : position + piece.size].view(STORAGE[piece.dtype])
            position += piece.size
            for start, stop in self._blocks(piece):
                blocks = [values[start:stop] for values in self._flat[piece.tensor]]
                into = target[start - piece.start : stop - piece.start]
                if piece.dtype in FLOATS:
                    for bad in self._merge_floats(piece.dtype, blocks, plan, into):
                        found.setdefault(self._sets[bad].name, piece.tensor)
                else:
                    into[:] = integer_mean(piece.dtype)([blocks[voter] for voter in self._voters], self._weights)
        return tuple(NonFinite(name, tensor) for name, tensor in found.items())

    def size(self, index: int) -> int:
        """Bytes of one segment of the result."""
        return size_of(self.segments[index])

    def _merge_floats(self, dtype: str, blocks: Sequence[Block], plan: Plan, into: Block) -> list[int]:
        """Merges one block; the sets that hold NaN or infinity in it."""
        values = [widen(dtype, block) for block in blocks]
        voting = [values[voter] for voter in self._voters]
        direct = into.dtype == computed_in(dtype) and into.flags.aligned
        out: Any = into if direct else np.empty(len(into), computed_in(dtype))
        self._apply(voting, plan, out)
        sound = all_finite(out)
        # A mean shows whatever is not finite in its inputs; other methods may drop it.
        shows = plan.shares is None and self.method.combine is weighted_mean
        suspects = range(len(values)) if not sound or not (shows or self.measures) else self._silent()
        bad = [index for index in suspects if not all_finite(values[index])]
        if not sound and not bad:
            self._apply_at_small_scale(voting, plan, out)
        if not direct:
            narrow(dtype, out, into)
        return bad

    def _silent(self) -> list[int]:
        return [index for index, entry in enumerate(self._sets) if not entry.weight]

    def _apply(self, voting: Sequence[Values], plan: Plan, out: Values) -> None:
        if self.method.combine is not None:
            self.method.combine(voting, self._weights, out)
        elif plan.shares is not None:
            chosen = [index for index, share in enumerate(plan.shares) if share]
            weighted_mean([voting[index] for index in chosen], [float(plan.shares[index]) for index in chosen], out)

    def _apply_at_small_scale(self, voting: Sequence[Values], plan: Plan, out: Values) -> None:
        """Again for the elements that were too large to add up, and only for these."""
        lost = ~np.isfinite(out)
        picked = [values[lost].astype(np.float64) for values in voting]
        again = np.empty(int(lost.sum()))
        self._apply([values * _SMALL for values in picked], plan, again)
        with np.errstate(over="ignore"):
            again /= _SMALL
        out[lost] = np.clip(again, np.minimum.reduce(picked), np.maximum.reduce(picked))

    def _look_for_non_finite(self, index: int) -> NotFinite:
        found: dict[str, str] = {}
        for piece in self.segments[index]:
            for entry, values in zip(self._sets, self._flat[piece.tensor], strict=True):
                block = values[piece.start : piece.stop]
                if piece.dtype in FLOATS and not all_finite(widen(piece.dtype, block)):
                    found.setdefault(entry.name, piece.tensor)
        return tuple(NonFinite(name, tensor) for name, tensor in found.items())

    def _blocks(self, piece: Piece) -> list[tuple[int, int]]:
        size = self._block_elements
        return [(start, min(start + size, piece.stop)) for start in range(piece.start, piece.stop, size)]


def method_named(method: str) -> Method:
    """Raises UnknownMethod, naming those there are."""
    if method not in METHODS:
        raise UnknownMethod(method, tuple(METHODS))
    return METHODS[method]


def _checked(sets: Sequence[ParameterSet]) -> list[ParameterSet]:
    ordered = sorted(sets, key=lambda entry: entry.name)
    if not ordered:
        raise NothingToMerge("there is no parameter set to merge")
    if len({entry.name for entry in ordered}) < len(ordered):
        raise NothingToMerge("two parameter sets have the same name")
    if any(entry.weight < 0 for entry in ordered) or sum(entry.weight for entry in ordered) < 1:
        raise NothingToMerge("the weights are negative or add up to nothing")
    first = ordered[0]
    for entry in ordered:
        differs = difference(entry.layout, entry.name, first.layout, first.name) or _form_differs(entry)
        if differs is not None:
            raise LayoutDiffers(differs)
    return ordered


def _form_differs(entry: ParameterSet) -> str | None:
    """Whether the arrays are what the layout says they are."""
    for tensor, spec in entry.layout.items():
        if spec.dtype not in STORAGE:
            return f"Tensor {tensor} of {entry.name} has the dtype {spec.dtype}, which no merge knows"
        values = entry.tensors.get(tensor)
        if values is None or values.size != spec.count or values.dtype != np.dtype(STORAGE[spec.dtype]):
            return f"Tensor {tensor} of {entry.name} is not what its layout says"
    return None
