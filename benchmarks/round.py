"""Whole rounds of a large model: real geth, mutual TLS, real pipes, programs that write distinct random float32.

``python -m benchmarks.round [--size-mb 100] [--nodes 3] [--rounds 10] [--peer nvflare]``

A round is over when its last program holds the merged model, and the next one begins at once. What the loopback device
moves is counted in a network namespace of its own. ``--peer nvflare``: the same work on NVFlare, in the same run.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import loopback, nvflare_peer
from benchmarks.base import Accepted, Base, Results, busy_s, say
from benchmarks.marks import Marks, ended
from benchmarks.memory import Watch
from benchmarks.phases import phases_of
from benchmarks.report import goal, percentile, print_figures
from services.errors import SwarmError
from services.local.plan import SN, SwarmPlan
from services.local.process import Child

WARM_UP_ROUNDS = 4  # each of three nodes has led, and has connections to all others
SECONDS_GOAL = 0.9
BYTES_GOAL = 1.05  # of what no exchange can do without: 2 (n - 1) models
MEMORY_GOAL = 0.8  # of the model
PEER_GOAL = 0.25  # of the peer's time
GOAL_FOR = (100, 3)  # megabytes and nodes; other rounds are measured against no goal
MB = 1_000_000
HUNG_AFTER_S = 120.0
SLOW_BYTES_PER_S = 20 * MB  # a round may be as slow as this on a busy machine


async def run(size: int, nodes: int, rounds: int, warm_up: int = WARM_UP_ROUNDS) -> dict[str, Any]:
    """Seconds, bytes and memory of rounds of a model of ``size`` bytes, of which the first ``warm_up`` do not count."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        directory = Path(name)
        socket = directory / "marks"
        program = [
            sys.executable,
            "-m",
            "benchmarks.round_ml",
            str(size),
            str(warm_up),
            str(rounds),
            str(socket),
        ]
        plan = SwarmPlan(directory / "swarm", nodes, "geth", tuple(program))
        async with Base.of(plan) as base, base.client() as client, Marks(socket, nodes) as marks:
            results = Results()
            following = asyncio.create_task(results.follow(client))
            try:
                return await _measure(base, marks, results, size, rounds)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


async def _measure(base: Base, marks: Marks, results: Results, size: int, rounds: int) -> dict[str, Any]:
    plan, nodes = base.plan, base.plan.sl_count
    pids = {SN: base.children[SN].pid, "geth": base.geth_pid}
    for index, name in enumerate(plan.sls):
        launch = plan.sl(index, base.files[name], base.license_port, base.sn_port)
        await base.start_node(Child.start(launch))
        pids[name] = base.children[name].pid
    programs = [Child.start(plan.program(index)) for index in range(nodes)]
    base.children |= {program.name: program for program in programs}
    within_s = HUNG_AFTER_S + size * nodes * (WARM_UP_ROUNDS + rounds) / SLOW_BYTES_PER_S

    (await marks.all_there(programs, within_s)).go()
    idle = Watch(pids)
    say(f"{nodes} programs are enrolled")
    warm = await marks.all_there(programs, within_s)
    say("warm")
    async with idle as memory:
        moved, busy = loopback.moved_bytes(), _busy(base, programs)
        warm.go()
        measured = await marks.all_there(programs, within_s)
        moved = loopback.moved_bytes() - moved
        busy = {role: round((spent - busy[role]) / rounds, 2) for role, spent in _busy(base, programs).items()}
    say(f"{rounds} rounds are measured")
    measured.go()
    mark = await marks.all_there(programs, within_s)
    facts, accepted = mark.facts, tuple(results.accepted)
    _check(facts, accepted[-1])
    _check_logs(plan, accepted)
    mark.go()
    await ended(programs, within_s)
    times = [
        max(entry["began"] for entry in facts),
        *map(max, zip(*(entry["merged_at"] for entry in facts), strict=True)),
    ]
    wall = time.time() - time.monotonic()
    seconds = [later - earlier for earlier, later in pairwise(times)]
    return {
        "size_mb": round(size / MB),
        "nodes": nodes,
        "rounds": len(seconds),
        "p50_s": round(percentile(seconds, 50), 3),
        "p95_s": round(percentile(seconds, 95), 3),
        "min_s": round(min(seconds), 3),
        "lo_mb_per_round": round(moved / MB / rounds, 1),
        "lo_is_own": loopback.is_own(),
        "cpu_s_per_round": busy,
        "peaks_mb": _peaks(plan, memory, times, accepted),
        "phases": phases_of(
            [plan.log(name) for name in plan.sls],
            [[wall + at for at in (entry["began"], *entry["merged_at"])] for entry in facts],
        ),
        "digest": accepted[-1].digest,
    }


def _busy(base: Base, programs: Sequence[Child]) -> dict[str, float]:
    """Seconds of processor time so far, by role."""
    return {
        "sls": sum(busy_s(base.children[name].pid) for name in base.plan.sls),
        "programs": sum(busy_s(program.pid) for program in programs),
        "sn_and_geth": busy_s(base.children[SN].pid) + busy_s(base.geth_pid),
    }


def _peaks(plan: SwarmPlan, memory: Watch, times: Sequence[float], accepted: Sequence[Accepted]) -> dict[str, float]:
    """MB above idle: of each process as the kernel counted it; of SLs while they led and while they followed."""
    found = {name: memory.peak(name) for name in memory.pids}
    found |= {f"{name}_own": memory.peak_own(name) for name in plan.sls}
    roles: dict[str, list[int]] = {"leader": [0], "follower": [0]}
    rounds = accepted[-(len(times) - 1) :]
    for (begin, end), result in zip(pairwise(times), rounds, strict=True):
        for name in plan.sls:
            roles["leader" if name == result.leader else "follower"].append(memory.peak_within(name, begin, end))
    found |= {role: max(peaks) for role, peaks in roles.items()}
    found["sl"] = max(found[name] for name in plan.sls)
    return {name: round(size / MB, 1) for name, size in found.items()}


def _check(facts: Sequence[dict[str, Any]], last: Accepted) -> None:
    """All programs hold what the chain names, and that is the mean of what they gave."""
    digests = {entry["digest"] for entry in facts}
    assert digests == {last.digest}, f"the programs hold {digests}, the chain names {last.digest}"
    mean = np.mean([entry["gave"] for entry in facts], axis=0)
    for entry in facts:
        np.testing.assert_allclose(entry["merged"], mean, rtol=1e-6)


def _check_logs(plan: SwarmPlan, accepted: Sequence[Accepted]) -> None:
    """Every node has handed over every result that the chain names."""
    for name in plan.sls:
        log = plan.log(name).read_text()
        for result in accepted:
            assert result.digest[:16] in log, f"{name} has not taken the result of round {result.round}"
            assert len(result.merged) == plan.sl_count, f"round {result.round} merged {result.merged} only"


def goals_of(figures: dict[str, Any]) -> dict[str, Any]:
    size_mb, nodes = figures["size_mb"], figures["nodes"]
    needed_mb = 2 * (nodes - 1) * size_mb
    goals = {
        "lo_mb_per_round": goal(figures["lo_mb_per_round"] if figures["lo_is_own"] else None, BYTES_GOAL * needed_mb),
        "sl_peak_mb": goal(figures["peaks_mb"]["sl"], MEMORY_GOAL * size_mb),
    }
    if (size_mb, nodes) == GOAL_FOR:
        goals["p50_s"] = goal(figures["p50_s"], SECONDS_GOAL)
    if "nvflare" in figures:
        goals["share_of_nvflare"] = goal(figures["nvflare"]["share"], PEER_GOAL)
    return goals


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.round", description=__doc__)
    parser.add_argument("--size-mb", type=int, default=GOAL_FOR[0])
    parser.add_argument("--nodes", type=int, default=GOAL_FOR[1])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peer", choices=("nvflare",))
    given = parser.parse_args()
    try:
        if given.peer:
            nvflare_peer.install()  # the namespace that comes next has no way out
        loopback.enter("benchmarks.round")
        os.environ |= {"SL_LOG_LEVEL": "DEBUG", "SWARM_LOG_FORMAT": "json"}  # phases are logged so
        figures = asyncio.run(run(given.size_mb * MB, given.nodes, given.rounds))
        if given.peer:
            peer = nvflare_peer.run(given.size_mb, given.nodes, given.rounds)
            figures["nvflare"] = {**peer, "share": round(figures["p50_s"] / peer["p50_s"], 3)}
    except (SwarmError, nvflare_peer.NVFlareFailed) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    print_figures(figures, goals_of(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
