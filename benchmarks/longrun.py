"""A chain of many rounds: how long an SN takes to start again, another to join, and an audit to read it.

``python -m benchmarks.longrun [--rounds 1000] [--nodes 10] [--no-join] [--keep DIR]``

An SN in this process writes the rounds as its API would, many in a block, with the reports of all nodes; its memory and
that of its geth are looked at after each tenth. Then a license server and the SN are started as processes on that
chain, and once more, which is timed from launch to ready; *killed*: the same after a SIGKILL. *Audit*: ``swarm audit
--json`` as a process, while another client calls the SN one call after the other; ``longest_call_s`` is the slowest of
them, which shows how long the SN stood still. *Join*: from the launch of a second SN until its API is open. The goals
are for 10,000 rounds of 10 nodes.

With ``--keep`` the chain stays in DIR, and another run measures it without writing it again.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
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
from services.chain.paths import GETH_DIR
from services.errors import SwarmError
from services.identity.identity import Identity
from services.local.certificates import certificates
from services.local.plan import ADMIN, CODE_ROOT, HOST, SN, SwarmPlan
from services.local.process import Child, Launch, node_environment
from services.rpc import swarm_pb2 as pb
from services.runtime import logs
from services.sn.directory import DEFAULT_TRAINING
from services.sn.node import Announcement, serving

RESTART_GOAL_S, JOIN_GOAL_S, AUDIT_GOAL_S, CALL_GOAL_S = 5, 60, 60, 1
GROWTH_GOAL = 1.1  # resident memory of the SN at the end of the run, of what it was after a fifth of it
LOST_AFTER_S = 60.0
JOINED_WITHIN_S = 600.0
JOINING = "sn-2"
WRITTEN = "written.json"


async def run(directory: Path, rounds: int, nodes: int, *, join: bool) -> dict[str, Any]:
    """Seconds, and bytes of what grows with the rounds."""
    plan = SwarmPlan(directory, 1, "geth", sn_count=2)
    said = directory / WRITTEN
    if not said.exists():
        said.write_text(json.dumps(await written(plan, rounds, nodes)))
    figures: dict[str, Any] = json.loads(said.read_text())
    say("starting the SN on it")
    async with Base.of(plan) as base:
        figures["restart_s"] = await restarted(base, kill=False)
        figures["restart_killed_s"] = await restarted(base, kill=True)
        figures |= await audited(base)
        figures["sn_log_bytes"] = plan.log(SN).stat().st_size
        figures["join_s"] = await joined(base) if join else None
    return figures


async def written(plan: SwarmPlan, rounds: int, nodes: int) -> dict[str, Any]:
    """Makes the chain; what it has on the disk for each round, and the memory of the SN that did it."""
    directory = plan.directory / SN
    files = certificates(plan)[SN]
    identity = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)
    began, names = time.monotonic(), names_of(nodes)
    where = Announcement(HOST, 0, HOST)
    sn_bytes, geth_bytes = [], []
    async with (
        await open_chain("geth", directory) as chain,
        serving(identity, chain, directory, where, LOST_AFTER_S) as sn,
    ):
        training = sn.trainings.named(DEFAULT_TRAINING)
        await enrol(training.gateway, names)
        before = sizes(directory)
        for tenth in range(10):
            some = range(1 + rounds * tenth // 10, 1 + rounds * (tenth + 1) // 10)
            await write_rounds(training.gateway, names, some)
            while training.view.round < some.stop:  # whoever follows the chain has come as far
                sn.changed.clear()
                await sn.changed.wait()
            sn_bytes.append(sample(os.getpid()).resident)
            geth_bytes.append(sample(int((directory / GETH_DIR / "geth.pid").read_text())).resident)
            say(f"written: {some.stop - 1} rounds, {time.monotonic() - began:.0f} s, SN {sn_bytes[-1] >> 20} MiB")
        blocks = await chain.block_number()
    grown = {name: round((now - before[name]) / rounds) for name, now in sizes(directory).items()}
    return {
        "rounds": rounds,
        "nodes": nodes,
        "write_s": round(time.monotonic() - began, 1),
        "blocks": blocks,
        "geth_bytes_a_round": grown["geth"],
        "sn_bytes_a_round": grown["sn"],
        "sn_resident_bytes": sn_bytes,
        "geth_resident_bytes": geth_bytes,
    }


async def restarted(base: Base, *, kill: bool) -> float:
    """Seconds from the launch of the SN to its being ready."""
    child = base.children.pop(SN)
    if kill:
        child.kill()
    await child.stop()
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


def sizes(directory: Path) -> dict[str, int]:
    """Bytes on the disk: what geth keeps, and what the SN keeps beside it."""
    found = {"geth": 0, "sn": 0}
    for path in directory.rglob("*"):
        if path.is_file():
            found["geth" if (directory / GETH_DIR) in path.parents else "sn"] += path.stat().st_blocks * 512
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.longrun", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--no-join", dest="join", action="store_false", help="leave out the second SN")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the chain stays, or is already")
    given = parser.parse_args()
    logs.configure("human", "bench", "WARNING", sys.stderr)
    directory = given.keep or Path(tempfile.mkdtemp(prefix="swarm-bench-"))
    directory.mkdir(parents=True, exist_ok=True)
    try:
        figures = asyncio.run(run(directory.absolute(), given.rounds, given.nodes, join=given.join))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        if given.keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    resident = figures["sn_resident_bytes"]
    goals = {
        "restart_s": goal(figures["restart_s"], RESTART_GOAL_S),
        "restart_killed_s": goal(figures["restart_killed_s"], RESTART_GOAL_S),
        "sn_memory_growth": goal(round(resident[-1] / resident[1], 3), GROWTH_GOAL),
        "audit_s": goal(figures["audit_s"], AUDIT_GOAL_S),
        "longest_call_s": goal(figures["longest_call_s"], CALL_GOAL_S),
    }
    if given.join:
        goals["join_s"] = goal(figures["join_s"], JOIN_GOAL_S)
    print_figures(figures, goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
