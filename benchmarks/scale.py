"""Many SLs on one SN: what a round costs when all of them are real processes that do all of it.

``python -m benchmarks.scale [--sl 64] [--rounds 20] [--in-one 1] [--leaders N] [--warm-up N]``

License server, SN on real geth and SLs run as they always do; to start so many on two cores, SLs are forked from one
process that has loaded their code (services.local.forking), a few at a time. Their ML programs do nothing, and are
threads of one process (benchmarks.scale_ml). A round is over when its last program has the merged model.

``--in-one``: so many SLs share a process and its event loop: 256 processes need more memory than most machines have.

Each node is connected to all others once it has led: so the rounds that are measured come after one for each node.
Those have a figure of their own, ``first_p50_s``: there the leader is new to everybody. With fewer of them
(``--warm-up``) it is so in the rounds that are measured too. ``--leaders``: so many may lead (SL_MAKE_ME_ADMIN), the
others only take part; the rounds that come first are one for each of these then.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from benchmarks.base import Base, Results, busy_s, say
from benchmarks.coordination import transactions_of_rounds
from benchmarks.report import goal, percentile, print_figures
from services.errors import SwarmError
from services.local.forking import ForkServer, fork_server
from services.local.plan import CODE_ROOT, LICENSE_SERVER, SN, SwarmPlan
from services.local.process import Child, Launch, program_environment

P50_GOAL_S = 1.0
P50_GOAL_OF_MANY_S = 3.0  # for more than 64
COLD_ROUNDS = 5  # not counted at all: the first contract calls, the layout of the model
AT_A_TIME = 4
READY_WITHIN_S = 120.0
LOADED = ("services.cli.nodes", "services.runtime.process", "services.sl.main", "services.sl.settings")
ROUND_WITHIN_S = 120.0


class SLs:
    """The SLs of a plan, forked from one fork server, ``in_one`` in a process. ``pids``: of those that are ready."""

    def __init__(self, base: Base, in_one: int, leaders: int, forks: ForkServer) -> None:
        self.pids: dict[str, int] = {}  # by the name of the first SL in it
        self.in_one = in_one
        self._leaders = leaders
        self._base = base
        self._forks = forks

    async def start_all(self) -> None:
        """A few at a time. Raises ChildFailed, NotReady."""
        room = asyncio.Semaphore(AT_A_TIME)
        async with asyncio.TaskGroup() as group:
            for first in range(0, self._base.plan.sl_count, self.in_one):
                group.create_task(self._start(first, room))

    async def stop(self) -> None:
        await asyncio.gather(*(self._base.children[name].stop() for name in self.pids))

    async def _start(self, first: int, room: asyncio.Semaphore) -> None:
        base, plan = self._base, self._base.plan
        indexes = range(first, min(first + self.in_one, plan.sl_count))
        launches = [plan.sl(index, base.files[plan.sls[index]], base.license_port, base.sn_port) for index in indexes]
        environment = {**launches[0].environment, "SL_MAKE_ME_ADMIN": str(first < self._leaders)}
        launch = replace(launches[0], environment=environment)
        if len(launches) > 1:
            each = [(*_argv(plan, *pair), "--") for pair in zip(indexes, launches, strict=True)]
            launch = replace(launch, argv=(sys.executable, "-m", "benchmarks.side_by_side", *chain.from_iterable(each)))
        async with room:
            child = base.children[launch.name] = Child.start(launch, self._forks)
            await child.ready(READY_WITHIN_S)
            self.pids[launch.name] = child.pid
        ready = min(len(self.pids) * self.in_one, plan.sl_count)
        if ready % 8 == 0:
            say(f"{ready} of {plan.sl_count} SLs are ready")


def _argv(plan: SwarmPlan, index: int, launch: Launch) -> tuple[str, ...]:
    """As ``swarm`` gets them, and the pipes of an SL, which share no environment with those of another one."""
    request, response = plan.channel(plan.sls[index])
    return (*launch.argv[3:], "--request-channel", str(request), "--response-channel", str(response))


async def run(count: int, rounds: int, in_one: int, leaders: int, warm_up: int) -> dict[str, Any]:
    """Seconds per round, transactions per round as the SN sees them, and memory."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        directory = Path(name)
        plan = SwarmPlan(directory / "swarm", count, "geth")
        loading = fork_server(plan.log("forks"), LOADED, OPENBLAS_NUM_THREADS="1")
        async with Base.of(plan) as base, base.client() as client, loading as forks:
            results = Results()
            following = asyncio.create_task(results.follow(client))
            try:
                sls = SLs(base, in_one, leaders, forks)
                await sls.start_all()
                syncs = warm_up + rounds + 1
                program = _programs(plan, directory, syncs)
                base.children[program.name] = program
                await _rounds(results, program, range(1, 1 + warm_up), syncs)
                busy_before = _busy_s(base, sls)
                await _rounds(results, program, range(1 + warm_up, syncs), syncs)
                busy = {
                    role: round((seconds - busy_before[role]) / rounds, 3)
                    for role, seconds in _busy_s(base, sls).items()
                }
                memory = memory_of(base, sls)
                if await program.wait() != 0:
                    raise program.failure()
                await sls.stop()
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            times = json.loads(program.log.read_text().splitlines()[-1])
        sent = transactions_of_rounds(plan.log(SN).read_text().splitlines(), warm_up)
        seconds = [later - earlier for earlier, later in pairwise(times["last"])]
        first, seconds = seconds[COLD_ROUNDS:warm_up], seconds[warm_up:]
    return {
        "chain": "geth",
        "sl": count,
        "in_one_process": in_one,
        "leaders": leaders,
        "warm_up_rounds": warm_up,
        "rounds": len(seconds),
        "p50_s": round(percentile(seconds, 50), 3),
        "p95_s": round(percentile(seconds, 95), 3),
        "first_p50_s": round(percentile(first, 50), 3),
        "tx_per_round": round(len(sent) / rounds, 2),
        "tx_p50_s": round(percentile(sent, 50), 4),
        "cpu_s_per_round": busy,
        **memory,
    }


def _programs(plan: SwarmPlan, directory: Path, syncs: int) -> Child:
    channels = directory / "channels.json"
    channels.write_text(json.dumps([plan.channel_variables(index) for index in range(plan.sl_count)]))
    argv = (sys.executable, "-m", "benchmarks.scale_ml", str(syncs), str(channels))
    environment = program_environment(OPENBLAS_NUM_THREADS="1")
    return Child.start(Launch("ml", argv, plan.log("ml"), environment, cwd=CODE_ROOT, is_node=False))


async def _rounds(results: Results, program: Child, numbers: range, syncs: int) -> None:
    """Returns when these are accepted; says how far it is. Raises ChildFailed, TimeoutError."""
    for number in numbers:
        coming = asyncio.create_task(results.first(lambda result, n=number: result.round >= n, ROUND_WITHIN_S))  # type: ignore[misc]
        waits: set[asyncio.Future[Any]] = {coming, program.exited}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if program.exited.done() and program.exited.result() != 0:
            coming.cancel()
            raise program.failure()
        await coming
        if number % 5 == 0:
            say(f"{number} of {syncs} rounds are over")


def memory_of(base: Base, sls: SLs) -> dict[str, float]:
    """MB: the median SL's share (what forks share is divided among them) and what it has resident; SN, geth."""
    shares = [_kilobytes(pid, "Pss") / 1024 / sls.in_one for pid in sls.pids.values()]
    resident = [_kilobytes(pid, "Rss") / 1024 for pid in sls.pids.values()]
    nodes = {"sn": base.children[SN].pid, "geth": base.geth_pid, "license_server": base.children[LICENSE_SERVER].pid}
    return {
        "sl_share_mb": round(percentile(shares, 50), 1),
        "sl_process_resident_mb": round(percentile(resident, 50), 1),
        "sl_shares_mb": round(sum(shares) * sls.in_one, 1),
        **{f"{name}_resident_mb": round(_kilobytes(pid, "Rss") / 1024, 1) for name, pid in nodes.items()},
    }


def _busy_s(base: Base, sls: SLs) -> dict[str, float]:
    """Seconds of processor time so far, by role."""
    roles = {
        "sls": list(sls.pids.values()),
        "sn": [base.children[SN].pid],
        "geth": [base.geth_pid],
        "ml_programs": [base.children["ml"].pid],
    }
    return {role: sum(busy_s(pid) for pid in pids) for role, pids in roles.items()}


def _kilobytes(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--sl", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--in-one", type=int, default=1)
    parser.add_argument("--leaders", type=int, help="SLs that may lead, all of a process or none; by default all")
    parser.add_argument("--warm-up", type=int, help="rounds that are not measured; by default one for each leader")
    given = parser.parse_args()
    leaders = given.sl if given.leaders is None else given.leaders
    warm_up = COLD_ROUNDS + (leaders if given.warm_up is None else given.warm_up)
    os.environ |= {"SWARM_LOG_LEVEL": "DEBUG", "SWARM_LOG_FORMAT": "json"}  # transactions are logged so
    try:
        figures = asyncio.run(run(given.sl, given.rounds, given.in_one, leaders, warm_up))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    limit = P50_GOAL_S if given.sl <= 64 else P50_GOAL_OF_MANY_S
    print_figures(figures, {"p50_s": goal(figures["p50_s"], limit)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
