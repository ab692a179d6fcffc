"""The merge on one machine: a few threads measure and combine segments, which are written in order."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Self, TypeVar

import numpy as np

from services.merge.errors import LayoutDiffers, NothingToMerge
from services.merge.gram import Matrix
from services.merge.layout import STORAGE, Block, Layout, difference
from services.merge.methods import METHODS
from services.merge.processors import usable_processors
from services.merge.segments import SEGMENT_BYTES, Segment, segments
from services.merge.work import Blocks, Frame, MergeJob, NonFinite, NotFinite, Plan, Rounding, method_named

__all__ = ["METHODS", "NonFinite", "ParameterSet", "check_method", "merge", "merge_into", "passes_of"]

# Work for a thread at a time: large enough that handing it over costs little and blocks need not be short.
CHUNK_SEGMENTS = 16
CHUNK_BYTES = CHUNK_SEGMENTS * SEGMENT_BYTES

_T = TypeVar("_T")


def _ignore(_bytes: int) -> None:
    pass


@dataclass(frozen=True)
class ParameterSet:
    """One participant's parameters. ``tensors`` hold the storage dtype of their spec, in its shape or flat."""

    name: str
    weight: int
    layout: Layout
    tensors: Mapping[str, Block]


def check_method(method: str) -> None:
    """Raises UnknownMethod, which lists the known ones."""
    method_named(method)


def passes_of(method: str) -> int:
    """How often a merge by this method usually reads the data. Raises UnknownMethod."""
    return method_named(method).passes


def merge(
    method: str,
    sets: Sequence[ParameterSet],
    write: Callable[[memoryview], object],
    *,
    read: Callable[[int], object] = _ignore,
    block_elements: int | None = None,
    threads: int | None = None,
    rounding: Rounding | None = None,
) -> NotFinite:
    """Writes the bytes of the merged tensors, little endian, one tensor after the other in the order of their names.

    ``write`` gets at most 4 MiB at a time, valid until it returns. ``read`` gets the number of bytes of each set that a
    pass before the last has read. If either raises, the merge ends. Both are called on the calling thread.

    Holds a few such pieces of the result and a few blocks per thread. Reads every set once; twice for ``geomedian`` and
    ``krum``, and once more for each outlier that a pass took for the centre. The result depends neither on the block
    size, nor on ``threads`` (default: the cores this process may use), nor on the order of ``sets``. ``rounding``: as
    for ``MergeJob``.

    If the return value is not empty, what was written is not a result: the sets that it names hold NaN or infinity and
    are to be left out. Raises UnknownMethod, NothingToMerge, LayoutDiffers.
    """
    with _Run(method, sets, block_elements, threads, rounding=rounding) as run:
        return run.write(write, read)


def merge_into(
    method: str,
    sets: Sequence[ParameterSet],
    out: memoryview,
    *,
    read: Callable[[int], object] = _ignore,
    block_elements: int | None = None,
    threads: int | None = None,
    rounding: Rounding | None = None,
) -> NotFinite:
    """Like ``merge``, but writes the result directly into ``out``, which has the size of the body in bytes.

    ``read`` also gets the bytes of the last pass.
    """
    with _Run(method, sets, block_elements, threads, rounding=rounding) as run:
        return run.fill(out, read)


class _Run:
    """One merge on this machine."""

    def __init__(
        self,
        method: str,
        sets: Sequence[ParameterSet],
        block_elements: int | None,
        threads: int | None,
        *,
        rounding: Rounding | None,
    ) -> None:
        _check(sets)
        weights = {entry.name: entry.weight for entry in sets}
        self._work = MergeJob(method, sets[0].layout, weights, block_elements, rounding=rounding)
        self._source = _Source(sets)
        self._chunks = segments(sets[0].layout, CHUNK_BYTES)
        count = len(self._chunks)
        self._runner = _Runner(max(1, min(threads or usable_processors(), count)), count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def write(self, write: Callable[[memoryview], object], read: Callable[[int], object]) -> NotFinite:
        plan = self._plan(read)
        if not isinstance(plan, Plan):
            return plan
        room = max((chunk.size for chunk in self._chunks), default=0)
        buffers = deque(bytearray(room) for _ in range(self._runner.threads + 1))

        def combine(index: int) -> tuple[bytearray, NotFinite]:
            buffer = buffers.popleft()
            return buffer, self._combine(self._chunks[index], plan, memoryview(buffer)[: self._chunks[index].size])

        found: list[NonFinite] = []
        for chunk, (buffer, bad) in zip(self._chunks, self._runner.run(combine), strict=True):
            found += bad
            write(memoryview(buffer)[: chunk.size])
            buffers.append(buffer)
        return _first_of_each(found)

    def fill(self, out: memoryview, read: Callable[[int], object]) -> NotFinite:
        plan = self._plan(read)
        if not isinstance(plan, Plan):
            return plan

        def combine(index: int) -> NotFinite:
            chunk = self._chunks[index]
            return self._combine(chunk, plan, out[chunk.start : chunk.stop])

        found: list[NonFinite] = []
        for chunk, bad in zip(self._chunks, self._runner.run(combine), strict=True):
            found += bad
            read(chunk.size)
        return _first_of_each(found)

    def _combine(self, chunk: Segment, plan: Plan, out: memoryview) -> NotFinite:
        return self._work.combine_segment(chunk, self._source(chunk), plan, out)

    def _plan(self, read: Callable[[int], object]) -> Plan | NotFinite:
        work = self._work
        settled: Plan | Frame = Frame() if work.measures else work.plan()
        while isinstance(settled, Frame):
            frame = settled
            parts: list[Matrix] = []
            found: list[NonFinite] = []
            for chunk, measured in zip(self._chunks, self._runner.run(partial(self._measure, frame)), strict=True):
                for part, bad in measured:
                    parts.append(part)
                    found += bad
                read(chunk.size)
            if found:
                return _first_of_each(found)
            settled = work.settle(parts, frame)
        return settled

    def _measure(self, frame: Frame, chunk: int) -> list[tuple[Matrix, NotFinite]]:
        """Measures each segment of the chunk."""
        indices = range(chunk * CHUNK_SEGMENTS, min((chunk + 1) * CHUNK_SEGMENTS, len(self._work.segments)))
        return [self._work.measure(index, self._source(self._work.segments[index]), frame) for index in indices]


class _Source:
    """Gives the pieces of a segment from whole tensors."""

    def __init__(self, sets: Sequence[ParameterSet]) -> None:
        self._flat = {
            entry.name: {tensor: values.reshape(-1) for tensor, values in entry.tensors.items()} for entry in sets
        }

    def __call__(self, segment: Segment) -> Blocks:
        return {
            name: [tensors[piece.tensor][piece.start : piece.stop] for piece in segment.pieces]
            for name, tensors in self._flat.items()
        }


class _Runner:
    """Calls a function for 0, 1, ... and yields the results in order, running a few calls ahead."""

    def __init__(self, threads: int, count: int) -> None:
        self.threads = threads
        self._count = count
        self._pool = ThreadPoolExecutor(threads, "merge") if threads > 1 else None

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, function: Callable[[int], _T]) -> Iterator[_T]:
        if self._pool is None:
            yield from map(function, range(self._count))
            return
        waiting: deque[Future[_T]] = deque()
        for index in range(self._count):
            waiting.append(self._pool.submit(function, index))
            if len(waiting) > self.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _first_of_each(found: Sequence[NonFinite]) -> NotFinite:
    """Each set once, with its first tensor. ``found`` is in the order of the tensors."""
    first: dict[str, NonFinite] = {}
    for entry in found:
        first.setdefault(entry.name, entry)
    return tuple(first[name] for name in sorted(first))


def _check(sets: Sequence[ParameterSet]) -> None:
    ordered = sorted(sets, key=lambda entry: entry.name)
    if not ordered:
        raise NothingToMerge("there is no parameter set to merge")
    if len({entry.name for entry in ordered}) < len(ordered):
        raise NothingToMerge("two parameter sets have the same name")
    first = ordered[0]
    for entry in ordered:
        differs = difference(entry.layout, entry.name, first.layout, first.name) or _form_differs(entry)
        if differs is not None:
            raise LayoutDiffers(differs)


def _form_differs(entry: ParameterSet) -> str | None:
    """A sentence on the first array that does not fit the layout; None if all fit."""
    for tensor, spec in entry.layout.items():
        values = entry.tensors.get(tensor)
        known = spec.dtype in STORAGE
        if known and (values is None or values.size != spec.count or values.dtype != np.dtype(STORAGE[spec.dtype])):
            return f"Tensor {tensor} of {entry.name} is not what its layout says"
    return None
