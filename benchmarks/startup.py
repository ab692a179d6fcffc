"""From nothing to the first accepted round: `swarm up` is launched in an empty directory, with three nodes on geth.

``python -m benchmarks.startup [--chain geth] [--nodes 3] [--runs 3]``

The clock starts before the launch of ``swarm up`` and stops when the last node's program has the first merged model,
so it holds everything: certificates, license server, the making of the chain, contracts, SLs, programs, one round.
Warm: one run before the measured ones leaves bytecode and pages where a second start on any host finds them.
"""

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.report import goal, percentile, print_figures
from services.errors import SwarmError
from services.local.plan import CODE_ROOT, LICENSE_SERVER, SN
from services.local.process import Child, Launch, program_environment

P50_GOAL_S = 2.0
ML_PROGRAM = Path(__file__).with_name("coordination_ml.py")

# Steps by the lines that tell of them: files of the logs, beginning of the event.
STEPS = {
    "license_server": (LICENSE_SERVER, "License server ready"),
    "geth": (SN, "geth is up"),
    "sn": (SN, "Starting SWARM-API-SERVER"),
    "sls": ("sl-*", "waiting for the ML program"),
    "enrolled": ("sl-*", "enrolled"),
}


async def run(chain: str, nodes: int, runs: int) -> dict[str, Any]:
    """Seconds of each run, and where they went in the one in the middle."""
    await one(chain, nodes)
    busy_before = busy_s()
    measured = [await one(chain, nodes) for _ in range(runs)]
    middle = sorted(measured, key=lambda steps: steps["first_round"])[(runs - 1) // 2]
    totals = [steps["first_round"] for steps in measured]
    return {
        "chain": chain,
        "nodes": nodes,
        "runs": runs,
        "p50_s": round(percentile(totals, 50), 2),
        "max_s": round(max(totals), 2),
        "cpu_s": round((busy_s() - busy_before) / runs, 2),
        "steps_s": {name: round(seconds, 2) for name, seconds in sorted(middle.items(), key=lambda step: step[1])},
    }


def busy_s() -> float:
    """Seconds of processor time of all swarms that have ended, the end itself included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def one(chain: str, nodes: int) -> dict[str, float]:
    """Seconds from the launch to each step of one start."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        directory = Path(name)
        argv = (
            sys.executable, "-m", "services.cli", "up", "--sl", str(nodes), "--chain", chain,
            "--dir", str(directory / "swarm"), "--", sys.executable, str(ML_PROGRAM), "2", str(directory),
        )  # fmt: skip
        began, began_at = time.monotonic(), time.time()
        launch = Launch("up", argv, directory / "up.log", program_environment(), cwd=CODE_ROOT)
        swarm = Child.start(launch)
        try:
            if await swarm.wait() != 0:
                raise swarm.failure()
        finally:
            await swarm.stop()
        merged_at = [json.loads((directory / f"{index}.json").read_text())[0] for index in range(nodes)]
        return {**steps_of_nodes(directory / "swarm" / "logs", began_at), "first_round": max(merged_at) - began}


def steps_of_nodes(logs: Path, began_at: float) -> dict[str, float]:
    """When the last node of each kind said so, in seconds after ``began_at`` (seconds since the epoch)."""
    seconds: dict[str, float] = {}
    for step, (files, event) in STEPS.items():
        lines = (line for log in logs.glob(f"{files}.log") for line in log.read_text().splitlines())
        said = (json.loads(line) for line in lines if line.startswith("{"))
        times = [datetime.fromisoformat(entry["timestamp"]) for entry in said if entry["event"].startswith(event)]
        if times:
            seconds[step] = max(times).timestamp() - began_at
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--chain", choices=("geth", "embedded", "auto"), default="geth")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    os.environ["SWARM_LOG_FORMAT"] = "json"
    try:
        figures = asyncio.run(run(given.chain, given.nodes, given.runs))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    print_figures(figures, {"p50_s": goal(figures["p50_s"], P50_GOAL_S)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
