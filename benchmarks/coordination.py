"""What a round costs when the model costs nothing: real processes, real chain, real pipes, a model of 1 KB.

``python -m benchmarks.coordination [--chain geth] [--nodes 3] [--rounds 50]``
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.report import goal, percentile, print_figures
from services.errors import SwarmError
from services.local.plan import Plan
from services.local.swarm import up
from services.local.view import View
from services.rpc import swarm_pb2 as pb

WARM_UP_ROUNDS = 5  # connections, caches and the first contract calls
P50_GOAL_S = 0.08
ML_PROGRAM = Path(__file__).with_name("coordination_ml.py")


@dataclass
class Quiet(View):
    """Keeps only what goes wrong on the way."""

    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def update(self, status: pb.TrainingStatus) -> None:
        """The programs measure themselves."""

    def close(self) -> None:
        """Nothing to end."""


async def run(chain: str, nodes: int, rounds: int) -> dict[str, Any]:
    """Seconds per round as one ML program sees them, and what the SN spent on transactions."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        directory = Path(name)
        syncs = WARM_UP_ROUNDS + rounds + 1
        command = (sys.executable, str(ML_PROGRAM), str(syncs), str(directory))
        began = time.monotonic()
        await up(Plan(directory / "swarm", nodes, chain, command), Quiet(), asyncio.Event(), exit_when_done=True)
        merged_at = json.loads((directory / "0.json").read_text())
        seconds = [later - earlier for earlier, later in pairwise(merged_at)][WARM_UP_ROUNDS:]
        return {
            "chain": chain,
            "nodes": nodes,
            "rounds": len(seconds),
            "p50_s": round(percentile(seconds, 50), 4),
            "p95_s": round(percentile(seconds, 95), 4),
            "first_round_s": round(merged_at[0] - began, 2),
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coordination", description=__doc__)
    parser.add_argument("--chain", choices=("geth", "embedded", "auto"), default="geth")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=50)
    given = parser.parse_args()
    try:
        figures = asyncio.run(run(given.chain, given.nodes, given.rounds))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    print_figures(figures, {"p50_s": goal(figures["p50_s"], P50_GOAL_S)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
