"""The merge on one machine: segments measured and combined by a few threads, written in their order."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np

from services.merge.errors import LayoutDiffers, NothingToMerge
from services.merge.gram import Matrix
from services.merge.layout import STORAGE, Block, Layout, difference
from services.merge.methods import METHODS
from services.merge.work import BLOCK_ELEMENTS, Blocks, Frame, NonFinite, NotFinite, Plan, Work, method_named

__all__ = ["BLOCK_ELEMENTS", "METHODS", "NonFinite", "ParameterSet", "check_method", "merge", "passes_of"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class ParameterSet:
    """One participant's parameters. ``tensors`` hold the storage dtype of their spec, in its shape or flat."""

    name: str
    weight: int
    layout: Layout
    tensors: Mapping[str, Block]


def check_method(method: str) -> None:
    """Raises UnknownMethod, naming those there are."""
    method_named(method)


def passes_of(method: str) -> int:
    """How often a merge by this method reads the data, as a rule. Raises UnknownMethod."""
    return method_named(method).passes


def merge(
    method: str,
    sets: Sequence[ParameterSet],
    write: Callable[[memoryview], object],
    *,
    read: Callable[[int], object] = lambda _bytes: None,
    block_elements: int = BLOCK_ELEMENTS,
    threads: int | None = None,
) -> tuple[NonFinite, ...]:
    """Writes the merged tensors' bytes, little endian, tensor after tensor in the order of their names.

    ``write`` gets one segment (4 MiB) at a time, valid until it returns. ``read`` is told bytes of each set that a
    pass before the last has taken in; what either raises ends the merge. Both are called on the calling thread.

    Holds a few segments of the result and one block per set, and reads every set once, twice for ``geomedian`` and
    ``krum`` (three times where the first pass found its centre among outliers). The result depends neither on the
    block size, nor on ``threads`` (default: the cores this process may use), nor on the order of ``sets``.

    Where the return value is not empty, what was written is not a result: those sets hold NaN or infinity and are to be
    left out. Raises UnknownMethod, NothingToMerge, LayoutDiffers.
    """
    _check(sets)
    work = Work(method, sets[0].layout, {entry.name: entry.weight for entry in sets}, block_elements)
    source = _Source(work, sets)
    threads = max(1, min(threads or len(os.sched_getaffinity(0)), len(work.segments)))
    with _Runner(threads) as runner:
        plan = _plan(work, source, runner, read)
        if not isinstance(plan, Plan):
            return plan
        return _combine(work, source, plan, runner, write)


class _Source:
    """The pieces of every segment, out of tensors that are there in whole."""

    def __init__(self, work: Work, sets: Sequence[ParameterSet]) -> None:
        self._segments = work.segments
        self._flat = {
            entry.name: {tensor: values.reshape(-1) for tensor, values in entry.tensors.items()} for entry in sets
        }

    def __call__(self, index: int) -> Blocks:
        pieces = self._segments[index].pieces
        return {
            name: [tensors[piece.tensor][piece.start : piece.stop] for piece in pieces]
            for name, tensors in self._flat.items()
        }


def _plan(work: Work, source: _Source, runner: "_Runner", read: Callable[[int], object]) -> Plan | NotFinite:
    settled: Plan | Frame = Frame() if work.measures else work.plan()
    while isinstance(settled, Frame):
        frame = settled
        parts: list[Matrix] = []
        found: list[NonFinite] = []

        def measure(index: int, frame: Frame = frame) -> tuple[Matrix, NotFinite]:
            return work.measure(index, source(index), frame)

        for segment, (part, bad) in zip(work.segments, runner.run(measure, len(work.segments)), strict=True):
            parts.append(part)
            found += bad
            read(segment.size)
        if found:
            return _first_of_each(found)
        settled = work.settle(parts, frame)
    return settled


def _combine(
    work: Work, source: _Source, plan: Plan, runner: "_Runner", write: Callable[[memoryview], object]
) -> NotFinite:
    room = max((segment.size for segment in work.segments), default=0)
    buffers = deque(bytearray(room) for _ in range(runner.threads + 1))

    def combine(index: int) -> tuple[bytearray, NotFinite]:
        buffer = buffers.popleft()
        out = memoryview(buffer)[: work.segments[index].size]
        return buffer, work.combine(index, source(index), plan, out)

    found: list[NonFinite] = []
    for segment, (buffer, bad) in zip(work.segments, runner.run(combine, len(work.segments)), strict=True):
        found += bad
        write(memoryview(buffer)[: segment.size])
        buffers.append(buffer)
    return _first_of_each(found)


class _Runner:
    """Calls a function for 0, 1, ... and gives the results in this order, a few calls ahead of what was taken."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "merge") if threads > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, function: Callable[[int], _T], count: int) -> Iterator[_T]:
        if self._pool is None:
            yield from map(function, range(count))
            return
        waiting: deque[Future[_T]] = deque()
        for index in range(count):
            waiting.append(self._pool.submit(function, index))
            if len(waiting) > self.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _first_of_each(found: Sequence[NonFinite]) -> NotFinite:
    """Each set once, with its first tensor; ``found`` is in the order of the tensors."""
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
    """Whether the arrays are what the layout says they are."""
    for tensor, spec in entry.layout.items():
        values = entry.tensors.get(tensor)
        known = spec.dtype in STORAGE
        if known and (values is None or values.size != spec.count or values.dtype != np.dtype(STORAGE[spec.dtype])):
            return f"Tensor {tensor} of {entry.name} is not what its layout says"
    return None
