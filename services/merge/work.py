"""One merge, cut into segments that may be worked on in any order, by several threads or several machines."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.merge.errors import LayoutDiffers, NothingToMerge, UnknownMethod
from services.merge.floats import FLOATS, Values, all_finite, computed_in, narrow, weighted_mean, widen
from services.merge.gram import DOWN_SCALE, LARGEST_PRODUCT, Gram, GramSum, Matrix, added
from services.merge.integers import integer_mean
from services.merge.layout import STORAGE, Block, Layout
from services.merge.methods import BLOCK_ELEMENTS, METHODS, Method
from services.merge.segments import Piece, Segment, segments

# Scale for values whose sum exceeds their dtype; a power of two, so exact.
_SMALL = 2.0**-64


@dataclass(frozen=True)
class NonFinite:
    """A set that holds NaN or infinity, and the first tensor by name in which it does."""

    name: str
    tensor: str


NotFinite = tuple[NonFinite, ...]

# Gets the dtype and values of each block of the result, and changes them in place, element by element.
Rounding = Callable[[str, Values], object]

# By name of the set: the flat pieces of one segment, as ``Segment.cut`` returns them.
Blocks = Mapping[str, Sequence[Block]]


@dataclass(frozen=True)
class Frame:
    """The set that is subtracted from all, and the factor for all, before distances are measured."""

    centre: int = 0
    scale: float = 1.0


FIRST_FRAME = Frame()


@dataclass(frozen=True)
class Plan:
    """What the second pass needs from the first: each voting set's share, in the order of their names, to be passed on
    bit for bit. None for a method of one pass.
    """

    shares: tuple[float, ...] | None = None


class MergeJob:
    """A merge, cut into segments. ``weights``: by name of the set; sets of weight 0 are only checked.

    For each of ``segments``, ``measure`` (if the work ``measures``) and then ``combine`` depend only on the bytes of
    that segment and on the frame or plan, so that they may run anywhere. Both are thread-safe. No result depends on
    ``block_elements`` (default: what is fastest). ``rounding`` may change the floats of the result. Raises
    UnknownMethod, NothingToMerge, LayoutDiffers.
    """

    def __init__(
        self,
        method: str,
        layout: Layout,
        weights: Mapping[str, int],
        block_elements: int | None = None,
        *,
        rounding: Rounding | None = None,
    ) -> None:
        self._rounding = rounding
        self.method = method_named(method)
        _check(layout, weights)
        self.names = sorted(weights)
        self._voters = [name for name in self.names if weights[name]]
        self._silent = [name for name in self.names if not weights[name]]
        self._weights = [weights[name] for name in self._voters]
        self._centred_on: set[int] = set()
        self._block_elements = block_elements
        self.segments = segments(layout)

    @property
    def measures(self) -> bool:
        """Whether distances between sets are needed: for a method of two passes and more than one set with weight."""
        return self.method.shares is not None and len(self._voters) > 1

    def measure(self, index: int, blocks: Blocks, frame: Frame = FIRST_FRAME) -> tuple[Matrix, NotFinite]:
        """The Gram matrix over the floats that begin in one segment, (voters, voters) float64, and the voting sets
        that hold NaN or infinity there.
        """
        segment = self.segments[index]
        total = GramSum(len(self._voters), frame.centre, frame.scale)
        for number, piece in enumerate(segment.pieces):
            if piece.dtype in FLOATS:
                values = [blocks[name][number] for name in self._voters]
                begins_before = bool(segment.before) and not number
                for part in self._parts(piece, int(begins_before)):
                    total.add([widen(piece.dtype, block[part]) for block in values])
        matrix = total.total()
        return matrix, () if np.isfinite(matrix).all() else self._look_for_non_finite(index, blocks)

    def non_finite(self, index: int, blocks: Sequence[Block]) -> str:
        """The first tensor in which the pieces of one set's segment hold NaN or infinity; empty if none does."""
        for piece, block in zip(self.segments[index].pieces, blocks, strict=True):
            if piece.dtype in FLOATS and not all_finite(widen(piece.dtype, block)):
                return piece.tensor
        return ""

    def settle(self, parts: Iterable[Matrix], frame: Frame = FIRST_FRAME) -> Plan | Frame:
        """The plan, from the results of ``measure`` for each segment, in order; or the frame in which all must be
        measured again, because of too much rounding or an overflow.

        Raises ValueError for parts that ``measure`` cannot have returned.
        """
        products = added(parts, len(self._voters))
        if not np.isfinite(products).all() and frame.scale != 1:
            raise ValueError("what was measured is not finite")
        if frame.scale == 1 and not (np.abs(products) < LARGEST_PRODUCT).all():
            return Frame(frame.centre, DOWN_SCALE)
        gram = Gram(products, frame.centre)
        self._centred_on.add(frame.centre)
        better = gram.better_centre(self._weights)
        if better not in self._centred_on:
            return Frame(better, frame.scale)
        return self.plan(gram)

    def plan(self, gram: Gram | None = None) -> Plan:
        """The plan; ``gram`` is needed if the work ``measures``."""
        if self.method.shares is None:
            return Plan()
        if gram is None:
            return Plan((1.0,))
        return Plan(tuple(float(share) for share in self.method.shares(gram, self._weights)))

    def combine(self, index: int, blocks: Blocks, plan: Plan, out: memoryview) -> NotFinite:
        """Writes the bytes of one segment of the result; they are not valid if anything is returned."""
        return self.combine_segment(self.segments[index], blocks, plan, out)

    def combine_segment(self, segment: Segment, blocks: Blocks, plan: Plan, out: memoryview) -> NotFinite:
        """``combine`` for a segment of any length."""
        into = np.frombuffer(out, np.uint8)
        cut = bool(segment.before or segment.after)
        room = np.empty(segment.before + segment.size + segment.after, np.uint8) if cut else into
        found: dict[str, str] = {}
        position = 0
        for number, piece in enumerate(segment.pieces):
            target = room[position : position + piece.size].view(STORAGE[piece.dtype])
            position += piece.size
            for part in self._parts(piece):
                values = {name: blocks[name][number][part] for name in self.names}
                for bad in self._merge(piece.dtype, values, plan, target[part]):
                    found.setdefault(bad, piece.tensor)
        if cut:
            into[:] = room[segment.before : segment.before + segment.size]
        return tuple(NonFinite(name, tensor) for name, tensor in found.items())

    def _merge(self, dtype: str, blocks: Mapping[str, Block], plan: Plan, into: Block) -> list[str]:
        """Merges one block; returns the sets that hold NaN or infinity in it."""
        if dtype not in FLOATS:
            into[:] = integer_mean(dtype)([blocks[name] for name in self._voters], self._weights)
            return []
        values = {name: widen(dtype, block) for name, block in blocks.items()}
        voting = [values[name] for name in self._voters]
        direct = into.dtype == computed_in(dtype) and into.flags.aligned
        out: Any = into if direct else np.empty(len(into), computed_in(dtype))
        self._apply(voting, plan, out)
        sound = all_finite(out)
        suspects = self.names if not sound or not (self.method.propagates_non_finite or self.measures) else self._silent
        bad = [name for name in suspects if not all_finite(values[name])]
        if not sound and not bad:
            self._apply_at_small_scale(voting, plan, out)
        if self._rounding is not None:
            self._rounding(dtype, out)
        if not direct:
            narrow(dtype, out, into)
        return bad

    def _apply(self, voting: Sequence[Values], plan: Plan, out: Values) -> None:
        if self.method.combine is not None:
            self.method.combine(voting, self._weights, out)
        elif plan.shares is not None:
            chosen = [index for index, share in enumerate(plan.shares) if share]
            weighted_mean([voting[index] for index in chosen], [float(plan.shares[index]) for index in chosen], out)

    def _apply_at_small_scale(self, voting: Sequence[Values], plan: Plan, out: Values) -> None:
        """Repeats the merge only for the elements whose sum was too large."""
        lost = ~np.isfinite(out)
        picked = [values[lost].astype(np.float64) for values in voting]
        again = np.empty(int(lost.sum()))
        self._apply([values * _SMALL for values in picked], plan, again)
        with np.errstate(over="ignore"):
            again /= _SMALL
        out[lost] = np.clip(again, np.minimum.reduce(picked), np.maximum.reduce(picked))

    def _look_for_non_finite(self, index: int, blocks: Blocks) -> NotFinite:
        found = [(name, self.non_finite(index, blocks[name])) for name in self.names]
        return tuple(NonFinite(name, tensor) for name, tensor in found if tensor)

    def _parts(self, piece: Piece, begin: int = 0) -> list[slice]:
        """The blocks of a piece."""
        size = self._block_elements or self.method.block_elements
        if piece.dtype != "F32":  # blocks are widened first, or have values of twice the size
            size = min(size, BLOCK_ELEMENTS)
        stop = piece.stop - piece.start
        return [slice(start, min(start + size, stop)) for start in range(begin, stop, size)]


def method_named(method: str) -> Method:
    """The method of this name. Raises UnknownMethod, which lists the known ones."""
    if method not in METHODS:
        raise UnknownMethod(method, tuple(METHODS))
    return METHODS[method]


def _check(layout: Layout, weights: Mapping[str, int]) -> None:
    if not weights:
        raise NothingToMerge("there is no parameter set to merge")
    if any(weight < 0 for weight in weights.values()) or sum(weights.values()) < 1:
        raise NothingToMerge("the weights are negative or add up to nothing")
    for tensor, spec in layout.items():
        if spec.dtype not in STORAGE:
            raise LayoutDiffers(f"Tensor {tensor} has the dtype {spec.dtype}, which no merge knows")
