"""How long commands of a swarm take: through the shell's command objects and through REST, with two SWOPs.

``python -m benchmarks.commands [--chain geth] [--runs 25] [--trainings 4] [--executors PROCESS,DOCKER]``

Commands that read the swarm, and those that write to the chain, are given one after the other. A training is assigned,
waited for and reset: from the assignment to the first line of the last program, and from the end of the task, as the
SN's log has it, to the return of WAIT. The figure of a goal is that of the slowest command; RESET TASKRUNNER counts for
none, as it returns when what was started is removed. DOCKER needs Docker and the
images ``--sl-image`` and ``--ml-image``, which are built from docker/; it is left out where it does not answer.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.base import say
from benchmarks.commands_swarm import IMAGE, SWOPS, CommandedSwarm, Way, commanded_swarm, remove_image, run_body
from benchmarks.report import goal, percentile, print_figures
from services.errors import SwarmError
from services.local.plan import SN
from services.local.swarm import CONTRACT
from services.local.swops import RUNNER

READ_GOAL_S = 0.020
WRITE_GOAL_S = 0.060
WAIT_GOAL_S = 0.3
START_GOALS_S = {"PROCESS": 1.0, "DOCKER": 3.0}
WARM_UP = 3  # connections, caches
SYNCS = 3

BUILD, RUN = "bench_build", "bench_run"
RESET_RUNNER = "RESET TASKRUNNER"
READS = {
    "LIST NODES": "",
    "LIST CONTRACTS": "",
    "GET CONTRACT INFO": CONTRACT,
    "GET CONTRACT STATUS": CONTRACT,
    "PERFDATA": CONTRACT,
    "LIST TASKS": "",
    "GET TASK INFO": RUN,
    "GET TASK BODY": RUN,
    "LIST TASKRUNNERS": "",
    "GET TASKRUNNER INFO": RUNNER,
    "LIST TASKRUNNER PEERS": RUNNER,
    "GET TASKRUNNER STATUS": RUNNER,
    "GET TASKRUNNER PEER STATUS": f"{RUNNER} 0",
    "GET CONTEXT VERSION": "",
}
WRITES = {
    "CREATE CONTRACT": "{way}-contract-{n}",
    "CREATE TASKRUNNER": "{way}-runner-{n}",
    "CREATE TASK": f"MAKE_USER_CONTAINER {{way}}-task-{{n}} bench ROOTTASK {IMAGE}",
    "APPEND TASK BODY": "{way}-task-{n} 1 BuildType: INLINE",
    "DELETE TASK": "{way}-task-{n}",
    "CREATE TASK FROM": "{way}-{n}.yaml",
    "FINALIZE TASK": "{way}-file-{n}",
}

Times = dict[tuple[str, str], list[float]]


async def run(chain: str, runs: int, trainings: int, executors: Sequence[str], ml_image: str) -> dict[str, Any]:
    """Seconds of every command by the way that it was given, and of trainings by executor."""
    taken: Times = defaultdict(list)
    figures: dict[str, Any] = {"chain": chain, "runs": runs, "trainings": {}}
    for executor in executors:
        base_image = ml_image if executor == "DOCKER" else IMAGE
        with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
            try:
                async with commanded_swarm(Path(name) / "swarm", chain, executor) as swarm:
                    say(f"trainings with {executor}")
                    figures["trainings"][executor] = await trained(swarm, taken, base_image, trainings)
                    if executor == executors[0]:
                        say("commands")
                        await commanded(swarm, taken, runs)
            except SwarmError as error:
                if executor == executors[0]:
                    raise
                say(f"{executor} is left out: {error}")
            else:
                if executor == "DOCKER":
                    await remove_image()
    figures["commands"] = {
        command: {way: spread(taken[command, way]) for way in ("shell", "rest")}
        for command in dict.fromkeys(command for command, _ in taken)
    }
    return figures


async def trained(swarm: CommandedSwarm, taken: Times, base_image: str, trainings: int) -> dict[str, Any]:
    """Builds, then trains so often in each way. One training of each warms up."""
    shell = swarm.ways["shell"]
    for name, text in ((BUILD, build_task(BUILD, base_image)), (RUN, run_task(swarm.usr))):
        (swarm.usr / f"{name}.yaml").write_text(text)
        for line in (f"CREATE TASK FROM {name}.yaml", f"FINALIZE TASK {name}"):
            await shell(line)
    for line in (f"ASSIGN TASK {BUILD} TO {RUNNER} WITH {SWOPS} PEERS", f"WAIT FOR TASKRUNNER {RUNNER}"):
        await shell(line)
    await shell(f"{RESET_RUNNER} {RUNNER}")
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(trainings + 1):
        for name, way in swarm.ways.items():
            found = await one_training(swarm, way, name, taken if number else defaultdict(list))
            for step, took in found.items() if number else ():
                seconds[step].append(took)
    # The last one stays, so that there is something to read; its SWOPs have nothing to do any more.
    await shell(f"ASSIGN TASK {BUILD} TO {RUNNER} WITH {SWOPS} PEERS")
    await shell(f"WAIT FOR TASKRUNNER {RUNNER}")
    return {step: spread(took) for step, took in seconds.items()}


async def one_training(swarm: CommandedSwarm, way: Way, name: str, taken: Times) -> dict[str, float]:
    """Seconds from the assignment to the start of the last program; until WAIT returns, from the end of the task, and
    from that of the last program, after which its SL ends and its SWOP reports.
    """
    out = swarm.usr / "out"
    for file in out.glob("*.jsonl"):
        file.unlink()
    assigned_at = time.time()
    await timed(taken, way, name, "ASSIGN TASK", f"{RUN} TO {RUNNER} WITH {SWOPS} PEERS")
    await way(f"WAIT FOR TASKRUNNER {RUNNER}")
    returned_at = time.time()
    told = [json.loads(file.read_text()) for file in out.glob("*.jsonl")]
    assert len(told) == SWOPS, f"{len(told)} programs told when they started"
    ended_at = last_report(swarm.base.plan.log(SN))
    await timed(taken, way, name, RESET_RUNNER, RUNNER)
    await timed(taken, way, name, "RESET CONTRACT", CONTRACT)
    return {
        "start": max(one["started_at"] for one in told) - assigned_at,
        "wait": returned_at - ended_at,
        "wait_after_programs": returned_at - max(one["ended_at"] for one in told),
    }


async def commanded(swarm: CommandedSwarm, taken: Times, runs: int) -> None:
    for name, way in swarm.ways.items():
        for number in range(WARM_UP + runs):
            now = taken if number >= WARM_UP else defaultdict(list)
            (swarm.usr / f"{name}-{number}.yaml").write_text(build_task(f"{name}-file-{number}", IMAGE))
            for command, rest in (READS | WRITES).items():
                await timed(now, way, name, command, rest.format(way=name, n=number))


async def timed(taken: Times, way: Way, name: str, command: str, rest: str) -> None:
    began = time.perf_counter()
    await way(f"{command} {rest}".strip())
    taken[command, name].append(time.perf_counter() - began)


def build_task(name: str, base_image: str) -> str:
    body = {"BuildContext": None, "BuildType": "INLINE", "BuildSteps": [f"FROM {base_image}"]}
    return _task(name, "MAKE_USER_CONTAINER", "ROOTTASK", IMAGE, body)


def run_task(usr: Path) -> str:
    return _task(RUN, "RUN_SWARM", BUILD, "model", run_body(usr, SYNCS))


def _task(name: str, kind: str, prereq: str, outcome: str, body: dict[str, Any]) -> str:
    head = {"Name": name, "TaskType": kind, "Author": "bench", "Prereq": prereq, "Outcome": outcome}
    return yaml.safe_dump({**head, "Body": body}, sort_keys=False)


def last_report(log: Path) -> float:
    """When the last report of a peer was on the chain, which ends the task. Seconds since the epoch."""
    lines = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    reports = [it for it in lines if it.get("event") == "transaction" and it["function"] == "report"]
    at = datetime.fromisoformat(reports[-1]["timestamp"])
    return at.timestamp()


def spread(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "p50_s": round(percentile(seconds, 50), 4),
        "p95_s": round(percentile(seconds, 95), 4),
        "count": len(seconds),
    }


def goals_of(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    def slowest(counts: Callable[[str], bool]) -> float:
        return max(
            way["p50_s"] for command, ways in figures["commands"].items() if counts(command) for way in ways.values()
        )

    return {
        "read_p50_s": goal(slowest(lambda command: command in READS), READ_GOAL_S),
        "write_p50_s": goal(slowest(lambda command: command not in {*READS, RESET_RUNNER}), WRITE_GOAL_S),
        **{
            f"{step}_{name.lower()}_{what}": goal(took[step][what], limit)
            for name, took in figures["trainings"].items()
            for step, what, limit in (("wait", "p95_s", WAIT_GOAL_S), ("start", "p50_s", START_GOALS_S[name]))
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.commands", description=__doc__)
    parser.add_argument("--chain", choices=("geth", "embedded", "auto"), default="geth")
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--trainings", type=int, default=4)
    parser.add_argument("--executors", default="PROCESS,DOCKER")
    parser.add_argument("--sl-image", default="swarm-learning/sl:latest")
    parser.add_argument("--ml-image", default="swarm-learning/ml:latest")
    given = parser.parse_args()
    os.environ |= {"SWARM_LOG_LEVEL": "DEBUG", "SWARM_LOG_FORMAT": "json"}  # transactions are logged so
    os.environ["SWOP_SL_IMAGE"] = given.sl_image
    try:
        executors = given.executors.split(",")
        figures = asyncio.run(run(given.chain, given.runs, given.trainings, executors, given.ml_image))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    print_figures(figures, goals_of(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
