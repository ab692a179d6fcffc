"""Rounds over slow links: each node in a network namespace of its own, behind a link shaped by ``tc tbf``.

``python -m benchmarks.shards [--nodes 2,4,8] [--link 100mbit] [--size-mb 20] [--rounds 3] [--method mean]
[--compression none]``

A merge that is shared out moves 2 (n - 1) / n of the model into and out of each node, whatever n is; a round cannot
take less than that on a link that is as fast in both directions. One merger alone would need n times as long for it.
Links carry the nodes' calls to the SN and all headers too; what moved is read from their counters. Where the processors
are never idle, not the links are measured but what else runs on the machine: see ``idle``, the share of their time in
which the processors had nothing to do. Needs root.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.base import Base, busy_s, say
from benchmarks.marks import Marks, ended
from benchmarks.report import goal, percentile, print_figures
from services.errors import SwarmError
from services.identity.authority import Authority, IssuedFiles
from services.local.plan import HOST, HOSTS, SwarmPlan
from services.local.process import Child, Launch
from swarm_callback.options import COMPRESSIONS
from tests.chaos.network import Network, missing

WARM_UP_ROUNDS = 2
TIME_GOAL = 1.3  # of the ideal
MOVED_GOAL = 1.8  # of the model, each way
MB = 1_000_000
WITHIN_S = 600.0
QUEUE_S = 0.05  # of a link; a long one only delays what is asked for
UNITS = {"kbit": 1_000, "mbit": 1_000_000, "gbit": 1_000_000_000}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - namespaces reach it


@dataclass(frozen=True)
class MeasuredRounds:
    """``times``: when each round was over for its last program. ``moved``: bytes out of and into each node meanwhile.
    ``busy_s``: processor time of the SLs. ``idle``: share of all the processors' time.
    """

    times: list[float]
    moved: list[tuple[int, int]]
    busy_s: float
    idle: float


@dataclass(frozen=True)
class Apart(SwarmPlan):
    """A plan whose SLs live in namespaces, and whose other nodes are reached from there at ``host``."""

    host: str = HOST
    spaces: tuple[tuple[str, str], ...] = ()  # namespace and address of each SL

    def license_server(self, files: IssuedFiles, free_port: int = 0) -> Launch:
        return _with(super().license_server(files, free_port), {"--host": EVERYWHERE})

    def sn(self, index: int, files: IssuedFiles, **ports: int) -> Launch:
        return _with(super().sn(index, files, **ports), {"--host": EVERYWHERE, "--host-ip": self.host})

    def sl(self, index: int, files: IssuedFiles, license_port: int = 0, sn_port: int = 0, free_port: int = 0) -> Launch:
        space, address = self.spaces[index]
        where = {"--host": EVERYWHERE, "--host-ip": address, "--sn-ip": self.host, "--apls-ip": self.host}
        launch = _with(super().sl(index, files, license_port, sn_port, free_port), where)
        return replace(launch, argv=("ip", "netns", "exec", space, *launch.argv))

    def issue(self) -> None:
        """Certificates under which the nodes are reached where they are."""
        authority = Authority.create(self.directory / "ca", "benchmark")
        at = {f"sl-{index + 1}": address for index, (_, address) in enumerate(self.spaces)}
        for role, name in self.identities:
            authority.issue(role, name, [*HOSTS, at.get(name, self.host)], self.directory / "certs")


def _with(launch: Launch, values: Mapping[str, str]) -> Launch:
    argv = list(launch.argv)
    for flag, value in values.items():
        argv[argv.index(flag) + 1] = value
    return replace(launch, argv=tuple(argv))


async def run(network: Network, nodes: int, size: int, bytes_per_s: float, given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a round, and what the busiest node moved, for ``nodes`` nodes."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        directory = Path(name)
        spaces = tuple((network.namespace(place), network.address(place)) for place in range(nodes))
        program = (
            sys.executable, "-m", "benchmarks.round_ml", str(size), str(WARM_UP_ROUNDS), str(given.rounds),
            str(directory / "marks"), given.method, given.compression,
        )  # fmt: skip
        plan = Apart(directory / "swarm", nodes, "auto", program, host=network.host, spaces=spaces)
        plan.issue()
        async with Base.of(plan) as base, Marks(directory / "marks", nodes) as marks:
            found = await _measure(base, marks, network)
    ideal = 2 * (nodes - 1) / nodes * size / bytes_per_s
    seconds = [later - earlier for earlier, later in pairwise(found.times)]
    best = min(seconds)
    say(f"{nodes} nodes: {best:.2f} s, {best / ideal:.2f} of the ideal")
    return {
        "p50_s": round(percentile(seconds, 50), 3),
        "min_s": round(best, 3),
        "ideal_s": round(ideal, 3),
        "of_ideal": round(percentile(seconds, 50) / ideal, 3),
        "busiest_out": round(max(out for out, _ in found.moved) / size / given.rounds, 3),
        "busiest_in": round(max(into for _, into in found.moved) / size / given.rounds, 3),
        "sls_cpu_s_per_round": round(found.busy_s / given.rounds, 2),
        "idle": round(found.idle, 3),
    }


async def _measure(base: Base, marks: Marks, network: Network) -> MeasuredRounds:
    plan = base.plan
    for index, name in enumerate(plan.sls):
        await base.start_node(Child.start(plan.sl(index, base.files[name], base.license_port, base.sn_port)))
    programs = [Child.start(plan.program(index)) for index in range(plan.sl_count)]
    base.children |= {program.name: program for program in programs}
    (await marks.all_there(programs, WITHIN_S)).go()
    warm = await marks.all_there(programs, WITHIN_S)
    before = [network.moved(place) for place in range(plan.sl_count)]
    began, busy, idle = time.monotonic(), _busy_s(base), idle_s()
    warm.go()
    measured = await marks.all_there(programs, WITHIN_S)
    took, busy, idle = time.monotonic() - began, _busy_s(base) - busy, idle_s() - idle
    after = [network.moved(place) for place in range(plan.sl_count)]
    measured.go()
    last = await marks.all_there(programs, WITHIN_S)
    facts = last.facts
    if len({entry["digest"] for entry in facts}) > 1:
        raise SystemExit("the nodes end with different models")
    last.go()
    await ended(programs, WITHIN_S)
    times = [
        max(entry["began"] for entry in facts),
        *map(max, zip(*(entry["merged_at"] for entry in facts), strict=True)),
    ]
    moved = [(out[0] - back[0], out[1] - back[1]) for out, back in zip(after, before, strict=True)]
    return MeasuredRounds(times, moved, busy, idle / (took * (os.cpu_count() or 1)))


def _busy_s(base: Base) -> float:
    return sum(busy_s(base.children[name].pid) for name in base.plan.sls)


def idle_s() -> float:
    """For how long the processors of this machine have had nothing to do, all together, since it started."""
    _, _, _, _, idle, waiting, *_ = Path("/proc/stat").read_text().split(maxsplit=6)
    return (int(idle) + int(waiting)) / os.sysconf("SC_CLK_TCK")


async def run_all(given: argparse.Namespace) -> dict[str, Any]:
    counts, bytes_per_s = [int(count) for count in given.nodes.split(",")], bits_of(given.link) / 8
    network = await Network.open()
    try:
        for place in range(max(counts)):
            await network.slow(place, round(bytes_per_s), QUEUE_S)
        size = round(given.size_mb * MB)
        return {str(count): await run(network, count, size, bytes_per_s, given) for count in counts}
    finally:
        await network.close()


def bits_of(rate: str) -> float:
    """``100mbit`` as bits per second."""
    number = rate.rstrip("abcdefghijklmnopqrstuvwxyz")
    return float(number) * UNITS[rate[len(number) :]]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", default="2,4,8")
    parser.add_argument("--link", default="100mbit")
    parser.add_argument("--size-mb", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", default="mean")
    parser.add_argument("--compression", choices=COMPRESSIONS, default="none")
    given = parser.parse_args()
    if problem := missing():
        print(f"ERROR: {problem}", file=sys.stderr)
        return 2
    try:
        figures = asyncio.run(run_all(given))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    goals = {
        name: goal(max(entry[what] for entry in figures.values() for what in over), limit)
        for name, over, limit in (
            ("of_ideal", ("of_ideal",), TIME_GOAL),
            ("busiest_node", ("busiest_out", "busiest_in"), MOVED_GOAL),
        )
    }
    facts = {
        "link": given.link,
        "size_mb": given.size_mb,
        "method": given.method,
        "compression": given.compression,
        "cores": os.cpu_count(),
    }
    print_figures({**facts, "nodes": figures}, goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
