"""A chain of many rounds: how long an SN takes to start again, another to join, and an audit to read it.

``python -m benchmarks.longrun [--rounds 1000] [--nodes 10] [--no-join]``

The rounds are written straight through the gateway, many in a block, with the reports of all nodes. Then a license
server and the SN are started as processes on that chain: once, so that files are where a second start finds them, and
again, which is timed from launch to ready. *Audit*: ``swarm audit --json`` as a process, while another client calls the
SN one call after the other; ``longest_call_s`` is the slowest of them, which shows how long the SN stood still. *Join*:
from the launch of a second SN until its API is open. The goals are for 10,000 rounds of 10 nodes.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.base import Base, say
from benchmarks.histories import enrol, names_of, write_rounds
from benchmarks.memory import Watch, sample
from benchmarks.report import goal, print_figures
from services.chain.factory import open_chain
from services.chain.training import TrainingGateway
from services.errors import SwarmError
from services.local.plan import ADMIN, CODE_ROOT, HOST, SN, SwarmPlan
from services.local.process import Child, Launch, node_environment
from services.rpc import swarm_pb2 as pb
from services.runtime import logs
from services.sn.directory import DEFAULT_TRAINING, establish

RESTART_GOAL_S, JOIN_GOAL_S, AUDIT_GOAL_S, CALL_GOAL_S = 5, 60, 60, 1
JOINED_WITHIN_S = 600.0
JOINING = "sn-2"


async def run(rounds: int, nodes: int, *, join: bool) -> dict[str, Any]:
    """Seconds, and bytes of what grows with the rounds."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        plan = SwarmPlan(Path(name), 1, "geth", sn_count=2)
        figures: dict[str, Any] = {"rounds": rounds, "nodes": nodes, **await written(plan, rounds, nodes)}
        say("starting the SN on it")
        async with Base.of(plan) as base:
            figures["restart_s"] = await restarted(base)
            figures |= await audited(base)
            figures["sn_log_bytes"] = plan.log(SN).stat().st_size
            figures["join_s"] = await joined(base) if join else None
        return figures


async def written(plan: SwarmPlan, rounds: int, nodes: int) -> dict[str, Any]:
    """Makes the chain; what it has on the disk for each round."""
    directory = plan.directory / SN
    began = time.monotonic()
    async with await open_chain("geth", directory) as chain:
        location = await (await establish(chain, directory)).contract_named(DEFAULT_TRAINING)
        assert location is not None  # establish() has made it
        training = TrainingGateway.at(chain, location)
        await enrol(training, names_of(nodes))
        before = bytes_in(directory)
        for start in range(1, rounds + 1, 100):
            await write_rounds(training, names_of(nodes), range(start, min(start + 100, rounds + 1)))
            say(f"written: {min(start + 99, rounds)} rounds, {time.monotonic() - began:.0f} s")
    return {
        "write_s": round(time.monotonic() - began, 1),
        "chain_bytes_a_round": round((bytes_in(directory) - before) / rounds),
    }


async def restarted(base: Base) -> float:
    """Seconds from the launch of the SN to its being ready."""
    await base.children.pop(SN).stop()
    began = time.monotonic()
    base.sn_port = await base.start_node(Child.start(base.plan.sn(0, base.files[SN], license_port=base.license_port)))
    return round(time.monotonic() - began, 2)


async def audited(base: Base) -> dict[str, Any]:
    """Time, and memory of both ends, of an audit; and what a call of another took meanwhile."""
    out = base.plan.directory / "audit.json"
    mine = base.files[ADMIN]
    argv = (
        sys.executable, "-m", "services.cli", "audit", DEFAULT_TRAINING, "--json",
        "--sn-ip", HOST, "--sn-api-port", str(base.sn_port),
        "--cert", str(mine.cert), "--key", str(mine.key), "--cacert", str(mine.cacert),
    )  # fmt: skip
    began = time.monotonic()
    auditor = Child.start(Launch("audit", argv, out, node_environment(), cwd=CODE_ROOT, is_node=False))
    try:
        async with Watch({SN: base.children[SN].pid}) as watch, base.client() as client:
            calls, auditor_bytes = [0.0], 0
            while not auditor.exited.done():
                asked = time.monotonic()
                await client.network.GetInfo(pb.GetInfoRequest())
                calls.append(time.monotonic() - asked)
                with contextlib.suppress(OSError, KeyError):  # it has ended
                    auditor_bytes = sample(auditor.pid).peak
        took = time.monotonic() - began
        if await auditor.wait() != 0:
            raise auditor.failure()
    finally:
        await auditor.stop()
    found = json.loads(out.read_text())
    return {
        "audit_s": round(took, 2),
        "events": len(found["events"]),
        "sound": found["sound"],
        "longest_call_s": round(max(calls), 3),
        "sn_idle_bytes": watch.idle[SN].resident,
        "sn_audit_bytes": watch.peak(SN),
        "auditor_bytes": auditor_bytes,
    }


async def joined(base: Base) -> float:
    """Seconds until another SN has read the chain and opened its API."""
    began = time.monotonic()
    launch = base.plan.sn(1, base.files[JOINING], license_port=base.license_port, sentinel_port=base.sn_port)
    child = base.children[JOINING] = Child.start(launch)
    await child.ready(JOINED_WITHIN_S)
    return round(time.monotonic() - began, 2)


def bytes_in(directory: Path) -> int:
    """Of all files, as far as they are on the disk."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.longrun", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--no-join", dest="join", action="store_false", help="leave out the second SN")
    given = parser.parse_args()
    logs.configure("human", "bench", "WARNING", sys.stderr)
    try:
        figures = asyncio.run(run(given.rounds, given.nodes, join=given.join))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    goals = {
        "restart_s": goal(figures["restart_s"], RESTART_GOAL_S),
        "audit_s": goal(figures["audit_s"], AUDIT_GOAL_S),
        "longest_call_s": goal(figures["longest_call_s"], CALL_GOAL_S),
    }
    if given.join:
        goals["join_s"] = goal(figures["join_s"], JOIN_GOAL_S)
    print_figures(figures, goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
