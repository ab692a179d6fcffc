"""The table of merge methods: the built-in ones, and those that installed packages add."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import entry_points

from services.merge.distances import SharesOf, geomedian, krum
from services.merge.errors import UnusableMethod
from services.merge.floats import weighted_mean
from services.merge.ranks import Combine, coordmedian, trimmed_mean

# For blocks that are read once: the longer they are, the less often a processor begins a new stream; with half a chunk,
# two are still left for each of a few threads.
STREAM_ELEMENTS = 524_288
# For blocks that are read and written many times: long enough to outweigh numpy's calls, and still in a shared cache.
BLOCK_ELEMENTS = 131_072

ENTRY_POINTS = "swarm_learning.merge_methods"


@dataclass(frozen=True)
class Method:
    """How float tensors are merged: one function over blocks, or one from distances to shares.

    ``combine(blocks, weights, out)`` makes one block of the result: flat blocks of one dtype (float32 or float64), a
    positive integer weight for each, ``out`` like one of them. It must treat each coordinate alone, and in the same way
    at every place in a block, and must not write to a block. It need not care about NaN, infinity or overflow: values
    are checked, and results that are not finite are computed again at a smaller scale.

    ``shares(gram, weights)`` returns each set's share of the result, (n,) float64 with sum 1; the result is the sum of
    share times set. It is called once, after a pass over all floats.

    ``propagates_non_finite``: whether a block with NaN or infinity always gives a result of ``combine`` that is not
    finite; then inputs are checked only in that case.

    ``block_elements``: number of float32 values in a block that is fastest for ``combine``.
    """

    combine: Combine | None = None
    shares: SharesOf | None = None
    block_elements: int = BLOCK_ELEMENTS
    propagates_non_finite: bool = False

    def __post_init__(self) -> None:
        if (self.combine is None) == (self.shares is None):
            raise ValueError("a merge method has either combine or shares")

    @property
    def passes(self) -> int:
        """How often the data is read."""
        return 1 if self.shares is None else 2


_BUILT_IN: Mapping[str, Method] = {
    "mean": Method(combine=weighted_mean, block_elements=STREAM_ELEMENTS, propagates_non_finite=True),
    "coordmedian": Method(combine=coordmedian, propagates_non_finite=True),
    "geomedian": Method(shares=geomedian, block_elements=STREAM_ELEMENTS),
    "trimmed_mean": Method(combine=trimmed_mean(Fraction(1, 3))),
    "krum": Method(shares=krum(), block_elements=STREAM_ELEMENTS),
}


class _Table(Mapping[str, Method]):
    """Looks at installed packages only for a name that is not built in, or to list all names."""

    def __getitem__(self, name: str) -> Method:
        if name in _BUILT_IN:
            return _BUILT_IN[name]
        for entry in entry_points(group=ENTRY_POINTS, name=name):
            method = entry.load()
            if not isinstance(method, Method):
                raise UnusableMethod(f"the merge method '{name}' of {entry.value} is not a Method")
            return method
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        installed = {entry.name for entry in entry_points(group=ENTRY_POINTS)}
        return iter([*_BUILT_IN, *sorted(installed - _BUILT_IN.keys())])

    def __len__(self) -> int:
        return sum(1 for _ in self)


METHODS: Mapping[str, Method] = _Table()
