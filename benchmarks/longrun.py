"""A chain of many rounds: how long an SN takes to start again, another to join, and an audit to read it.

``python -m benchmarks.longrun [--rounds 1000] [--nodes 10] [--keep DIR] [--only restart audit join]``

An SN in this process writes the rounds as its API would, many in a block, with the reports of all nodes; its memory and
that of its geth are looked at after each tenth. Then a license server and the SN are started as processes on that
chain, and once more, which is timed from launch to ready; *killed*: the same after a SIGKILL. *Audit*: ``swarm audit
--json`` as a process, while another client calls the SN one call after the other; ``longest_call_s`` is the slowest of
them, which shows how long the SN stood still. *Join*: from the launch of a second SN until its API is open. The goals
are for 10,000 rounds of 10 nodes.

With ``--keep`` the chain stays in DIR as it was written, and another run measures it, in a copy, without writing it
again. *Fetched*: of the join, until the second SN's geth has executed the whole chain.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
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

GOALS = {"restart_s": 5, "restart_killed_s": 5, "join_s": 60, "audit_s": 60, "longest_call_s": 1}
GROWTH_GOAL = 1.1  # resident memory of the SN at the end of the run, of what it was after a fifth of it
LOST_AFTER_S = 60.0
JOINED_WITHIN_S = 600.0
JOINING = "sn-2"
WRITTEN = "written.json"
PARTS = ("restart", "audit", "join")


def of(directory: Path) -> SwarmPlan:
    return SwarmPlan(directory, 1, "geth", sn_count=2)


async def run(directory: Path, parts: Sequence[str], written: dict[str, Any]) -> dict[str, Any]:
    """Seconds, and bytes of what grows with the rounds. ``written``: what was seen while the chain was made."""
    figures = dict(written)
    say("starting the SN on it")
    async with Base.of(of(directory)) as base:
        if "restart" in parts:
            figures["restart_s"] = await restarted(base, kill=False)
            figures["restart_killed_s"] = await restarted(base, kill=True)
        if "audit" in parts:
            figures |= await audited(base)
        if "join" in parts:
            figures |= await joined(base)
        figures["sn_log_bytes"] = base.plan.log(SN).stat().st_size
    return figures


async def write(plan: SwarmPlan, rounds: int, nodes: int) -> dict[str, Any]:
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


async def joined(base: Base) -> dict[str, Any]:
    """Seconds until another SN has read the chain and opened its API, and until its geth has the chain."""
    began, at = time.monotonic(), datetime.now(UTC)
    launch = base.plan.sn(1, base.files[JOINING], license_port=base.license_port, sentinel_port=base.sn_port)
    child = base.children[JOINING] = Child.start(launch)
    await child.ready(JOINED_WITHIN_S)
    took = time.monotonic() - began
    fetched = re.search(r"^(\S+) .*blocks fetched ", base.plan.log(JOINING).read_text(), re.MULTILINE)
    assert fetched is not None
    then = datetime.combine(at.date(), datetime.strptime(fetched[1], "%H:%M:%S.%f").time(), UTC)
    return {
        "join_s": round(took, 2),
        "join_fetched_s": round((then - at).total_seconds() % 86_400, 2),
        "join_sn_bytes": sample(child.pid).peak,
    }


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
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the chain stays, or is already")
    given = parser.parse_args()
    logs.configure("human", "bench", "WARNING", sys.stderr)
    measured = Path(tempfile.mkdtemp(prefix="swarm-bench-"))
    try:
        figures = measure(measured, given.rounds, given.nodes, given.only, keep=given.keep)
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        shutil.rmtree(measured, ignore_errors=True)
    resident = figures["sn_resident_bytes"]
    goals = {"sn_memory_growth": goal(round(resident[-1] / resident[1], 3), GROWTH_GOAL)}
    goals |= {name: goal(figures[name], most) for name, most in GOALS.items() if name in figures}
    print_figures(figures, goals)
    return 0


def measure(directory: Path, rounds: int, nodes: int, parts: Sequence[str], *, keep: Path | None) -> dict[str, Any]:
    """Makes the chain unless it is in ``keep`` already, and measures it in ``directory``."""
    place = keep.absolute() if keep else directory
    said = place / WRITTEN
    if not said.exists():
        place.mkdir(parents=True, exist_ok=True)
        said.write_text(json.dumps(asyncio.run(write(of(place), rounds, nodes))))
    if keep:
        shutil.copytree(place, directory, dirs_exist_ok=True)
    return asyncio.run(run(directory, parts, json.loads(said.read_text())))


if __name__ == "__main__":
    sys.exit(main())
