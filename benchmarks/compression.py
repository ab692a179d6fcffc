"""What fewer bytes cost and save: the packing of parameters by itself, and rounds over slow links with and without it.

``python -m benchmarks.compression [--nodes 3] [--links 20mbit,100mbit] [--size-mb 20] [--rounds 3]``

The parameters of the first part are those of a network trained on scikit-learn's digits, and normal random numbers;
those of the second are uniform random numbers. Rounds are measured as benchmarks.shards does. The goals are ratios of
the same run: what travels packed takes less time on the slowest link. Needs root.
"""

import argparse
import asyncio
import os
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from benchmarks.base import say
from benchmarks.report import goal, print_figures
from benchmarks.shards import MB, QUEUE_S, bits_of, run
from services.errors import SwarmError
from services.sl.transfer.packing import FRAME, Packer, Unpacker
from swarm_callback.digest import SEGMENT_BYTES
from swarm_callback.options import COMPRESSIONS
from swarm_callback.rounding import round_in_place
from tests.chaos.network import Network, missing

VALUES = 8 * SEGMENT_BYTES // 4
TURNS = 5
GOALS = {"lossless": 0.95, "bf16": 0.6}  # of the time of a round without

Weights = npt.NDArray[np.float32]


def trained() -> Weights:
    """A digits classifier's parameters, twice: no segment holds any of them twice."""
    pictures, labels = load_digits(return_X_y=True)
    model = MLPClassifier((512, 512), random_state=1, early_stopping=True, n_iter_no_change=5)
    model.fit(pictures / 16, labels)
    flat = np.concatenate([part.reshape(-1) for part in (*model.coefs_, *model.intercepts_)])
    return np.resize(flat, VALUES).astype(np.float32)


def normal() -> Weights:
    return np.random.default_rng(1).normal(0, 0.05, VALUES).astype(np.float32)


def measure(values: Weights) -> dict[str, Any]:
    """Of one core, at the best of some turns: MB of parameters a second; and what is left of their bytes."""
    view = memoryview(values.view(np.uint8))
    pieces = [view[start : start + SEGMENT_BYTES] for start in range(0, len(view), SEGMENT_BYTES)]
    packer, unpacker, out = Packer(), Unpacker(), memoryview(bytearray(SEGMENT_BYTES))
    pack_s = unpack_s = float("inf")
    frames: list[bytes] = []
    for _ in range(TURNS):
        began = time.perf_counter()
        frames = [packer.pack(piece, 4) for piece in pieces]
        packed_at = time.perf_counter()
        for frame in frames:
            unpacker.unpack(4, memoryview(frame)[FRAME.size :], out)
        pack_s, unpack_s = min(pack_s, packed_at - began), min(unpack_s, time.perf_counter() - packed_at)
    return {
        "of_bytes": round(sum(map(len, frames)) / len(view), 3),
        "pack_mb_s": round(len(view) / MB / pack_s),
        "unpack_mb_s": round(len(view) / MB / unpack_s),
    }


def measure_packing() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in (("trained", trained()), ("normal", normal())):
        found[name] = {"lossless": measure(values)}
        round_in_place("F32", values)
        found[name]["bf16"] = measure(values)
        say(f"{name}: {found[name]}")
    return found


async def measure_rounds(given: argparse.Namespace) -> dict[str, Any]:
    """By link, then by the way parameters travel."""
    found: dict[str, Any] = {}
    for link in given.links.split(","):
        network = await Network.open()
        try:
            for place in range(given.nodes):
                await network.slow(place, round(bits_of(link) / 8), QUEUE_S)
            found[link] = {}
            for compression in COMPRESSIONS:
                say(f"{link}, {compression}:")
                options = argparse.Namespace(rounds=given.rounds, method="mean", compression=compression)
                size = round(given.size_mb * MB)
                figures = await run(network, given.nodes, size, bits_of(link) / 8, options)
                found[link][compression] = {key: figures[key] for key in ("p50_s", "busiest_out", "busiest_in")}
        finally:
            await network.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compression",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--links", default="20mbit,100mbit")
    parser.add_argument("--size-mb", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if problem := missing():
        print(f"ERROR: {problem}", file=sys.stderr)
        return 2
    packing = measure_packing()
    try:
        rounds = asyncio.run(measure_rounds(given))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    slowest = rounds[min(rounds, key=bits_of)]
    goals = {
        name: goal(round(slowest[name]["p50_s"] / slowest["none"]["p50_s"], 3), limit) for name, limit in GOALS.items()
    }
    facts = {"nodes": given.nodes, "size_mb": given.size_mb, "cores": os.cpu_count()}
    print_figures({**facts, "packing": packing, "rounds": rounds}, goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
