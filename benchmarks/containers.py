"""What containers cost: a swarm of Docker Compose against one of processes, two SNs, three nodes, a model of 1 KB.

``python -m benchmarks.containers [--rounds 40] [--runs 3]``

The images are built before, by docker/build. The two swarms take turns, and the median of the runs counts. From
`docker compose up` to the first accepted round holds everything: certificates, license server, chain, contracts, SLs,
programs, one round.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.base import say
from benchmarks.coordination import ML_PROGRAM, WARM_UP_ROUNDS, Quiet
from benchmarks.report import goal, percentile, print_figures
from examples.digits.compose_swarm import NODE_IMAGES, ComposeSwarm, build_images, docker, hand_over
from services.errors import SwarmError
from services.local.plan import SwarmPlan
from services.local.swarm import up

SNS, NODES = 2, 3
RATIO_GOAL = 1.15
SL_GOAL_MB = 200.0  # above its base
BASE_LABEL = "org.opencontainers.image.base.name"
WITHIN_S = 300.0


async def run(rounds: int, runs: int) -> dict[str, Any]:
    """Seconds to the first round and per round, of each kind of swarm; sizes of the images in MB."""
    say("images")
    await build_images(*NODE_IMAGES, "ml")
    measured: dict[str, list[dict[str, float]]] = {"processes": [], "containers": []}
    for number in range(runs):
        say(f"run {number + 1} of {runs}")
        for kind, swarm in (("processes", in_processes), ("containers", in_containers)):
            with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
                measured[kind].append(await swarm(Path(name), WARM_UP_ROUNDS + rounds + 1))
    figures: dict[str, Any] = {
        kind: {
            what: {
                "p50": round(percentile([figure[what] for figure in found], 50), 4),
                "max": round(max(figure[what] for figure in found), 4),
            }
            for what in ("first_round_s", "round_s")
        }
        for kind, found in measured.items()
    }
    ratio = figures["containers"]["round_s"]["p50"] / figures["processes"]["round_s"]["p50"]
    return {"runs": runs, "rounds": rounds, **figures, "round_ratio": round(ratio, 3), "images_mb": await sizes()}


async def in_processes(directory: Path, syncs: int) -> dict[str, float]:
    command = (sys.executable, str(ML_PROGRAM), str(syncs), str(directory))
    plan = SwarmPlan(directory / "swarm", NODES, "geth", command, sn_count=SNS)
    began = time.monotonic()
    await up(plan, Quiet(), asyncio.Event())
    return seconds_of(directory, began)


async def in_containers(directory: Path, syncs: int) -> dict[str, float]:
    out, programs = folders(directory)
    settings = {
        "ML_IMAGE": "swarm-learning/ml:latest", "PROGRAMS": str(programs),
        "PROGRAM": f"python3 /programs/{ML_PROGRAM.name} {syncs} /out",
    }  # fmt: skip
    swarm = ComposeSwarm(f"swarm-bench-{os.getpid()}", out, NODES, settings)
    began = time.monotonic()
    try:
        async with asyncio.timeout(WITHIN_S):
            await swarm.up()
            await docker("wait", *(swarm.container(f"ml-{number + 1}") for number in range(NODES)))
    finally:
        await swarm.down()
    return seconds_of(out, began)


def folders(directory: Path) -> tuple[Path, Path]:
    """Where the containers leave their results, and where they find the program."""
    out, programs = directory / "out", directory / "programs"
    for folder in (out, programs):
        folder.mkdir()
    hand_over(out)
    directory.chmod(0o755)
    shutil.copy(ML_PROGRAM, programs)
    return out, programs


def seconds_of(results: Path, began: float) -> dict[str, float]:
    """From ``began`` to the first round at the last node, and of a round as the first node's program sees it."""
    merged_at = [json.loads((results / f"{index}.json").read_text()) for index in range(NODES)]
    rounds = [later - earlier for earlier, later in pairwise(merged_at[0])][WARM_UP_ROUNDS:]
    return {"first_round_s": max(times[0] for times in merged_at) - began, "round_s": percentile(rounds, 50)}


async def sizes() -> dict[str, dict[str, float]]:
    """Of each image, and what it adds to its base."""
    found = {}
    for name in (*NODE_IMAGES, "ml"):
        image = json.loads(await docker("image", "inspect", f"swarm-learning/{name}:latest"))[0]
        base = json.loads(await docker("image", "inspect", image["Config"]["Labels"][BASE_LABEL]))[0]
        found[name] = {
            "size": round(image["Size"] / 1e6, 1),
            "above_base": round((image["Size"] - base["Size"]) / 1e6, 1),
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.containers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    try:
        figures = asyncio.run(run(given.rounds, given.runs))
    except (SwarmError, TimeoutError) as error:
        print(f"ERROR: {error or f'the swarm in containers has not finished within {WITHIN_S:.0f} s'}", file=sys.stderr)
        return error.exit_code if isinstance(error, SwarmError) else 1
    goals = {
        "round_ratio": goal(figures["round_ratio"], RATIO_GOAL),
        "sl_above_base_mb": goal(figures["images_mb"]["sl"]["above_base"], SL_GOAL_MB),
    }
    print_figures(figures, goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
