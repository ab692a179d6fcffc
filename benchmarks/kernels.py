"""Merging in memory: each method against the plain numpy way and against reading alone, in one run.

``python -m benchmarks.kernels [--sets 8] [--millions 25] [--repeat 10]``

The read limit is the sum of every set in blocks, on as many threads as the merge has, at the best of several block
sizes. The result goes into memory that stands. Times are the best of ``--repeat``, in which reading and all methods
take turns, so that all of them have the same machine; and those of the plain ways too, except that whichever takes
longer than ten seconds runs once. Their input is one stacked array, which stands before the clock starts.
"""

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import at_least, goal, print_figures
from services.merge.engine import ParameterSet, merge_into
from services.merge.layout import TensorLayout

Array = NDArray[np.float32]

READ_BLOCKS = (1 << 16, 1 << 17, 1 << 18)
SEGMENT = 1 << 20
LONG_S = 10.0
# Where the plain Weiszfeld stops: a step this small against the length of the result.
PLAIN_TOLERANCE = 1e-6
PLAIN_REPEAT = 3
UNEQUAL = "_unequal_weights"
METHODS = ("mean", "coordmedian", "geomedian", "trimmed_mean", "krum")


def run(count: int, elements: int, repeat: int) -> dict[str, Any]:
    """Seconds and ratios for ``count`` sets of ``elements`` float32."""
    stack = made(count, elements)
    threads = len(os.sched_getaffinity(0))
    out = bytearray(stack[0].nbytes)
    weights = {"": [1] * count, UNEQUAL: list(range(1, count + 1))}
    work: dict[str, Callable[[], object]] = {
        f"read {block}": partial(read_all, stack, threads, block) for block in READ_BLOCKS
    }
    work |= {method: partial(merged, method, stack, weights[""], out) for method in METHODS}
    work |= {method + UNEQUAL: partial(merged, method, stack, weights[UNEQUAL], out) for method in METHODS}
    seconds = best_of_each(work, repeat)
    read = min(seconds.pop(f"read {block}") for block in READ_BLOCKS)
    figures: dict[str, Any] = {
        "sets": count, "elements": elements, "threads": threads, "read_s": read, "read_gb_s": stack.nbytes / read / 1e9,
    }  # fmt: skip
    for name, took in seconds.items():
        entry = {"s": took, "gb_s": stack.nbytes / took / 1e9, "of_read_limit": read / took}
        entry["memory_sets"] = (len(out) + peak_bytes(work[name])) / len(out)  # the result in out is this method's now
        if name in PLAIN:
            entry |= against(PLAIN[name], stack, np.frombuffer(out, np.float32), took, repeat)
        print(f"{name}: {entry}", flush=True)
        figures[name] = entry
    return figures


def made(count: int, elements: int) -> Array:
    """Sets as nodes of a training give them: one model plus what each learned, more or less of it, and two far off."""
    random = np.random.default_rng(5)
    stack = np.empty((count, elements), np.float32)
    random.standard_normal(out=stack[0], dtype=np.float32)
    for index in range(1, count):
        random.standard_normal(out=stack[index], dtype=np.float32)
        stack[index] *= 10 if index >= count - 2 else 0.1 * index
        stack[index] += stack[0]
    return stack


def read_all(stack: Array, threads: int, block: int) -> None:
    """The sum of every set, block by block; each thread takes the same part of all sets, as a merge does."""

    def read(start: int) -> None:
        stop = min(start + SEGMENT, stack.shape[1])
        for begin in range(start, stop, block):
            for row in stack:
                np.add.reduce(row[begin : min(begin + block, stop)])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, range(0, stack.shape[1], SEGMENT)))


def merged(method: str, stack: Array, weights: Sequence[int], out: bytearray) -> None:
    layout = {"t": TensorLayout("F32", (stack.shape[1],))}
    sets = [
        ParameterSet(f"sl-{index:02}", weight, layout, {"t": row})
        for index, (row, weight) in enumerate(zip(stack, weights, strict=True))
    ]
    assert merge_into(method, sets, memoryview(out)) == ()


def plain_mean(stack: Array) -> Array:
    return np.average(stack, axis=0)


def plain_median(stack: Array) -> Array:
    return np.median(stack, axis=0)


def plain_geomedian(stack: Array) -> Array:
    """Weiszfeld on the full arrays."""
    point = stack.mean(axis=0)
    while True:
        pulls = np.array([1 / np.linalg.norm(row - point) for row in stack])
        pulls /= pulls.sum()
        following = np.tensordot(pulls.astype(np.float32), stack, 1)
        moved = float(np.linalg.norm(following - point))
        point = following
        if moved <= PLAIN_TOLERANCE * float(np.linalg.norm(point)):
            return point


PLAIN: dict[str, Callable[[Array], Array]] = {
    "mean": plain_mean, "coordmedian": plain_median, "geomedian": plain_geomedian,
}  # fmt: skip


def against(
    plain: Callable[[Array], Array], stack: Array, ours: Array, seconds: float, repeat: int
) -> dict[str, float]:
    """How long the plain way takes, and how far both results are apart at most."""
    began = time.perf_counter()
    theirs = plain(stack)
    took = time.perf_counter() - began
    apart = float(np.abs(theirs - ours).max())
    if took < LONG_S and repeat > 1:
        took = min(took, best_of_each({"plain": partial(plain, stack)}, min(repeat, PLAIN_REPEAT) - 1)["plain"])
    return {"plain_s": took, "times_faster": took / seconds, "largest_difference": apart}


def best_of_each(work: Mapping[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Seconds of the fastest of several turns."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(repeat):
        for name, act in work.items():
            began = time.perf_counter()
            act()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def peak_bytes(work: Callable[[], object]) -> int:
    """The most memory that Python and numpy had in hand at once while it ran, above what they held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def goals(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        "mean, part of the read limit": at_least(figures["mean"]["of_read_limit"], 0.8),
        "coordmedian, times np.median": at_least(figures["coordmedian"]["times_faster"], 20),
        "geomedian, times plain Weiszfeld": at_least(figures["geomedian"]["times_faster"], 12),
        "peak memory above inputs, in sets": goal(max(figures[method]["memory_sets"] for method in METHODS), 1.2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", type=int, default=8)
    parser.add_argument("--millions", type=float, default=25, help="elements of a set")
    parser.add_argument("--repeat", type=int, default=10)
    arguments = parser.parse_args()
    figures = run(arguments.sets, int(arguments.millions * 1_000_000), arguments.repeat)
    print_figures(figures, goals(figures))


if __name__ == "__main__":
    main()
