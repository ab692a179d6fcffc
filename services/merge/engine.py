"""The merge on one machine: segments measured and combined by a few threads, written in their order."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Self, TypeVar

from services.merge.gram import Matrix
from services.merge.methods import METHODS
from services.merge.work import BLOCK_ELEMENTS, NonFinite, NotFinite, ParameterSet, Plan, Work, method_named

__all__ = ["BLOCK_ELEMENTS", "METHODS", "NonFinite", "ParameterSet", "check_method", "merge", "passes_of"]

_T = TypeVar("_T")


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
    work = Work(method, sets, block_elements)
    threads = max(1, min(threads or len(os.sched_getaffinity(0)), len(work.segments)))
    with _Runner(threads) as runner:
        plan = _plan(work, runner, read)
        if not isinstance(plan, Plan):
            return plan
        return _combine(work, plan, runner, write)


def _plan(work: Work, runner: "_Runner", read: Callable[[int], object]) -> Plan | NotFinite:
    if not work.measures:
        return work.plan()
    centre, scale = 0, 1.0
    while True:
        parts: list[Matrix] = []
        found: list[NonFinite] = []
        measure = partial(work.measure, centre=centre, scale=scale)
        for index, (part, bad) in enumerate(runner.run(measure, len(work.segments))):
            parts.append(part)
            found += bad
            read(work.size(index))
        if found:
            return _first_of_each(found)
        settled = work.settle(parts, centre)
        if isinstance(settled, Plan):
            return settled
        centre, scale = settled


def _combine(work: Work, plan: Plan, runner: "_Runner", write: Callable[[memoryview], object]) -> NotFinite:
    room = max((work.size(index) for index in range(len(work.segments))), default=0)
    buffers = deque(bytearray(room) for _ in range(runner.threads + 1))

    def combine(index: int) -> tuple[bytearray, NotFinite]:
        buffer = buffers.popleft()
        return buffer, work.combine(index, plan, memoryview(buffer)[: work.size(index)])

    found: list[NonFinite] = []
    for index, (buffer, bad) in enumerate(runner.run(combine, len(work.segments))):
        found += bad
        write(memoryview(buffer)[: work.size(index)])
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
