"""How long a swarm takes to go on when its leader is killed: from the kill to the next accepted round.

``python -m benchmarks.recovery [--nodes 4] [--runs 2] [--timeout 2]``

Real processes on real geth. In each phase of a round the leader ends itself with SIGKILL at the line of its log that
says where it is (benchmarks.log_traps); the SN's stream of states tells when the next round is accepted. Then the
node is started again, and the next kill comes only after a round in which all took part. ``--timeout`` is given to
SL_LEADER_FAILURE_BASE_TIMEOUT and SN_LOST_AFTER_SECONDS; the goal is that time plus the slowest round without a kill.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.base import Accepted, Base, Results, say
from benchmarks.log_traps import Trap
from benchmarks.report import goal, percentile, print_figures
from services.errors import SwarmError
from services.local.plan import CODE_ROOT, SwarmPlan
from services.local.process import Child

BATCH_S = 0.1
MIN_PEERS = 2
WARM_UP_ROUNDS = 5
CALM_ROUNDS = 10  # between kills, to measure rounds without one
LONGEST_S = 60.0

# Where the leader dies: a line of its log, and how many rounds after the running one must be accepted.
PHASES: dict[str, tuple[dict[str, Any], int]] = {
    "before collecting": ({"event": "leads the round"}, 0),
    "mid-merge": ({"event": "collected"}, 0),
    "before publishing": ({"event": "written"}, 0),
    "after publishing": ({"event": "step", "state": "Publishing", "on": "Published"}, 1),
}


@dataclass
class Swarm:
    """SLs and their programs. ``traps``: where benchmarks.log_traps looks."""

    base: Base
    traps: Path

    async def start_pair(self, index: int) -> None:
        plan, name = self.base.plan, self.base.plan.sls[index]
        launch = plan.sl(index, self.base.files[name], self.base.license_port, self.base.sn_port)
        argv = (sys.executable, "-m", "benchmarks.log_traps", str(self.traps), name, *launch.argv[3:])
        await self.base.start_node(Child.start(replace(launch, argv=argv)))
        program = Child.start(replace(plan.program(index), cwd=CODE_ROOT))
        self.base.children[program.name] = program

    async def kill_leader(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Who was killed, in which round, and when."""
        sls = [self.base.children[name] for name in self.base.plan.sls]
        trap = Trap("leader", fields, kills=True)
        trap.arm(self.traps)
        async with asyncio.timeout(LONGEST_S):
            await asyncio.wait([child.exited for child in sls], return_when=asyncio.FIRST_COMPLETED)
        return trap.killed(self.traps)

    async def start_again(self, name: str) -> None:
        index = self.base.plan.sls.index(name)
        await self.base.children[f"ml-{index + 1}"].wait()  # it notices at once that its SL is gone
        await self.start_pair(index)


async def run(nodes: int, runs: int, timeout_s: float) -> dict[str, Any]:
    """Seconds to the next accepted round for each phase and run, and seconds of a round without a kill."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        directory = Path(name)
        command = (sys.executable, "-m", "benchmarks.recovery_ml", str(BATCH_S), str(MIN_PEERS))
        plan = SwarmPlan(directory / "swarm", nodes, "geth", command)
        traps = directory / "traps"
        traps.mkdir()
        async with Base.of(plan) as base, base.client() as client:
            swarm, results = Swarm(base, traps), Results()
            following = asyncio.create_task(results.follow(client))
            try:
                await asyncio.gather(*(swarm.start_pair(index) for index in range(nodes)))
                figures = await _measure(swarm, results, runs)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
    return {"chain": "geth", "nodes": nodes, "min_peers": MIN_PEERS, "failure_timeout_s": timeout_s, **figures}


async def _measure(swarm: Swarm, results: Results, runs: int) -> dict[str, Any]:
    everybody = set(swarm.base.plan.sls)
    took: dict[str, list[float]] = {phase: [] for phase in PHASES}
    calm: list[float] = []
    whole = await results.first(lambda result: everybody <= set(result.merged), LONGEST_S)
    for _ in range(runs):
        for phase, (fields, later) in PHASES.items():
            calm += await _calm(results, whole, WARM_UP_ROUNDS)
            killed = await swarm.kill_leader(fields)
            target = killed["round"] + later
            after = await results.first(lambda result, target=target: result.round >= target, LONGEST_S)  # type: ignore[misc]
            took[phase].append(after.at - killed["at"])
            say(f"{killed['node']} killed {phase}, round {target} accepted after {took[phase][-1]:.2f} s")
            await swarm.start_again(killed["node"])
            whole = await results.first(
                lambda result, after=after: result.round > after.round and everybody <= set(result.merged),  # type: ignore[misc]
                LONGEST_S,
            )
    every = [seconds for one in took.values() for seconds in one]
    return {
        "kills": len(every),
        "round_p50_s": round(percentile(calm, 50), 3),
        "round_max_s": round(max(calm), 3),
        "phases_s": {phase: [round(seconds, 2) for seconds in one] for phase, one in took.items()},
        "recovery_p50_s": round(percentile(every, 50), 3),
        "recovery_max_s": round(max(every), 3),
    }


async def _calm(results: Results, since: Accepted, warm_up: int) -> list[float]:
    """Seconds of each of some rounds in a row, after a few that are not counted."""
    last = since.round + warm_up + CALM_ROUNDS
    await results.first(lambda result: result.round >= last, LONGEST_S)
    times = [result.at for result in results.accepted if since.round + warm_up <= result.round <= last]
    return [later - earlier for earlier, later in pairwise(times)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=2.0)
    given = parser.parse_args()
    seconds = str(given.timeout)
    os.environ |= {
        "SWARM_LOG_LEVEL": "DEBUG", "SL_LOG_LEVEL": "DEBUG", "SWARM_LOG_FORMAT": "json",
        "SL_LEADER_FAILURE_BASE_TIMEOUT": seconds, "SN_LOST_AFTER_SECONDS": seconds,
    }  # fmt: skip
    try:
        figures = asyncio.run(run(given.nodes, given.runs, given.timeout))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    limit = round(given.timeout + figures["round_max_s"], 3)
    print_figures(figures, {"recovery_max_s": goal(figures["recovery_max_s"], limit)})
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
