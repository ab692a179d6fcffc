"""Adaptive synchronization in a run: three nodes with skewed digits, their interval and mean loss by round.

``python -m benchmarks.adaptive [--out PNG]`` (needs matplotlib and PyTorch). The last line is JSON.
"""

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from examples.digits import demo
from examples.digits.history import History
from services.local.plan import SwarmPlan
from services.local.swarm import up
from services.rpc import swarm_pb2 as pb
from services.runtime.process import run_node
from services.runtime.ready import ReadySocket

FREQUENCY = 8
PROGRAM = demo.HERE / "digits_torch.py"


class Intervals(History):
    """Keeps the interval of each round."""

    def __init__(self) -> None:
        super().__init__(lambda line: print(line, flush=True))
        self.intervals: dict[int, tuple[int, str]] = {}

    def update(self, status: pb.TrainingStatus) -> None:
        super().update(status)
        result = status.last_result
        if result.round:
            self.intervals[result.round] = (result.interval, result.pace)


async def run(stop: asyncio.Event) -> list[dict[str, Any]]:
    """One entry a round: its interval, why, and the mean loss of its model; nothing where ``stop`` came first."""
    seen = Intervals()
    with tempfile.TemporaryDirectory(prefix="swarm-adaptive-") as name:
        environment = {
            "OUTPUT_DIR": name,
            "ADAPTIVE_SYNC": "true",
            "SYNC_FREQUENCY": str(FREQUENCY),
            "MAX_EPOCHS": "42",
        }
        command = (sys.executable, str(PROGRAM))
        if not await up(
            SwarmPlan(Path(name) / "local", demo.NODES, "auto", command, environment=environment), seen, stop
        ):
            return []
    rounds = []
    for entry in seen.as_data():
        losses = [report["loss"] for report in entry["reports"].values()]
        interval, reason = seen.intervals.get(entry["round"], (0, ""))
        mean = sum(losses) / len(losses) if losses else None
        rounds.append({"round": entry["round"], "interval": interval, "reason": reason, "mean_loss": mean})
    return rounds


def draw(rounds: list[dict[str, Any]], path: Path) -> None:
    """Writes a PNG."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    numbers = [entry["round"] for entry in rounds]
    left.step(numbers, [entry["interval"] for entry in rounds], where="post", color="tab:blue")
    left.set_ylabel("batches until the next merge", color="tab:blue")
    left.set_yscale("log", base=2)
    left.set_xlabel("round")
    known = [entry for entry in rounds if entry["mean_loss"] is not None]
    right.plot([entry["round"] for entry in known], [entry["mean_loss"] for entry in known], color="tab:orange")
    right.set_ylabel("mean validation loss", color="tab:orange")
    right.set_yscale("log")
    left.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptive", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("adaptive-sync.png"))
    given = parser.parse_args()
    rounds: list[dict[str, Any]] = []

    async def measure(stop: asyncio.Event, _ready: ReadySocket) -> None:
        rounds.extend(await run(stop))

    exit_code = run_node(measure)
    if rounds:
        draw(rounds, given.out)
        changes = sum(before["interval"] != after["interval"] for before, after in itertools.pairwise(rounds))
        print(json.dumps({"rounds": len(rounds), "changes": changes, "intervals": [it["interval"] for it in rounds]}))
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
