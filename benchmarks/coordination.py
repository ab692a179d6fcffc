"""What a round costs when the model costs nothing: real processes, real chain, real pipes, a model of 1 KB.

``python -m benchmarks.coordination [--chain geth] [--sn 1] [--nodes 3] [--rounds 50]``
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.report import goal, percentile, print_figures
from services.errors import SwarmError
from services.local.plan import SwarmPlan
from services.local.swarm import up
from services.local.view import Lines

WARM_UP_ROUNDS = 5  # connections, caches and the first contract calls
P50_GOAL_S = 0.03
GOAL_FOR = (1, 3)  # SNs and nodes; other swarms are measured against no goal
ML_PROGRAM = Path(__file__).with_name("coordination_ml.py")


class Quiet(Lines):
    """Shows nothing: the programs and the SNs' logs hold the figures."""

    def say(self, line: str) -> None:
        """Failures come as errors."""


async def run(chain: str, sns: int, nodes: int, rounds: int) -> dict[str, Any]:
    """Seconds per round as one ML program sees them, and the transactions of a round as the SNs see them."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        directory = Path(name)
        command = (sys.executable, str(ML_PROGRAM), str(WARM_UP_ROUNDS + rounds + 1), str(directory))
        plan = SwarmPlan(directory / "swarm", nodes, chain, command, sn_count=sns)
        began = time.monotonic()
        await up(plan, Quiet(), asyncio.Event())
        merged_at = json.loads((directory / "0.json").read_text())
        seconds = [later - earlier for earlier, later in pairwise(merged_at)][WARM_UP_ROUNDS:]
        logs = [plan.log(name).read_text().splitlines() for name in plan.sns]
        transactions = transactions_of_rounds([line for log in logs for line in log])
        return {
            "chain": chain,
            "sn": sns,
            "nodes": nodes,
            "rounds": len(seconds),
            "p50_s": round(percentile(seconds, 50), 4),
            "p95_s": round(percentile(seconds, 95), 4),
            "tx_per_round": round(len(transactions) / rounds, 2),
            "tx_p50_s": round(percentile(transactions, 50), 4),
            "first_round_s": round(merged_at[0] - began, 2),
        }


def transactions_of_rounds(log: list[str], warm_up: int = WARM_UP_ROUNDS) -> list[float]:
    """Seconds of every transaction after the warm-up, from the logs of all SNs; a publication ends a round."""
    found = sorted((json.loads(line) for line in log if line.startswith("{")), key=lambda entry: entry["timestamp"])
    sent = [entry for entry in found if entry.get("event") == "transaction"]
    ends = [index for index, entry in enumerate(sent) if entry["function"] == "publish"]
    return [entry["seconds"] for entry in sent[ends[warm_up] + 1 : ends[-2] + 1]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coordination", description=__doc__)
    parser.add_argument("--chain", choices=("geth", "embedded", "auto"), default="geth")
    parser.add_argument("--sn", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=50)
    given = parser.parse_args()
    os.environ |= {"SWARM_LOG_LEVEL": "DEBUG", "SWARM_LOG_FORMAT": "json"}  # transactions are logged so
    try:
        figures = asyncio.run(run(given.chain, given.sn, given.nodes, given.rounds))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    of_goal = (given.sn, given.nodes) == GOAL_FOR
    print_figures(figures, {"p50_s": goal(figures["p50_s"], P50_GOAL_S)} if of_goal else {})
    return 0


if __name__ == "__main__":
    sys.exit(main())
