"""The demo: three nodes with skewed private shards learn one model together, compared with learning apart.

``python -m examples.digits.demo [--framework keras|torch] [--chain auto|geth|embedded] [--merge METHOD]
[--compression none|lossless|bf16] [--out DIR]``
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from examples.digits.history import History
from examples.digits.plot import plot
from services.errors import LocalError
from services.local.plan import SwarmPlan
from services.local.process import Child, Launch, program_environment
from services.local.state import claimed
from services.local.swarm import up
from services.merge.methods import METHODS
from services.runtime.process import run_node
from services.runtime.ready import ReadySocket
from swarm_callback.digest import digest_of_file
from swarm_callback.options import COMPRESSIONS

NODES = 3
AT_ONCE = os.cpu_count() or 2  # trainings on one machine side by side; each takes one core
CENTRAL = "central"
HERE = Path(__file__).parent
INTERRUPTED = 130


class DigestsDiffer(LocalError):
    """The one thing that must never happen."""

    code = "demo-digests-differ"
    message = "The final models differ: {digests}, and the chain records {chain}"
    remedy = "This is a bug; please report it with the logs in {dir}."


@dataclass(frozen=True)
class Demo:
    """What to run and where everything goes."""

    framework: str
    chain: str
    merge: str
    compression: str
    out: Path

    example: ClassVar[str] = "digits"

    @property
    def command(self) -> tuple[str, ...]:
        return sys.executable, str(HERE / f"digits_{self.framework}.py")

    @property
    def apart(self) -> Path:
        return self.out / "apart"

    @property
    def swarm(self) -> Path:
        return self.out / "swarm"

    @property
    def nodes(self) -> list[str]:
        return [f"sl-{index + 1}" for index in range(NODES)]


@dataclass(frozen=True)
class Timed:
    """Seconds that it took: all before the swarm, and the swarm."""

    before: float
    swarm: float


async def run(demo: Demo, stop: asyncio.Event) -> dict[str, Any] | None:
    """The content of report.json; None where ``stop`` came first. Raises SwarmError."""
    began = time.monotonic()
    make_room(demo)
    print(f"{demo.example}: each node alone with its own data, and all data on one machine ({demo.framework}) ...")
    apart = await train_apart(demo, stop)
    if stop.is_set():
        return None
    print(f"{len(demo.nodes)} nodes in a swarm; their data stay with them ...", flush=True)
    swarm_began = time.monotonic()
    history = History(lambda line: print(line, flush=True))
    environment = {
        "OUTPUT_DIR": str(demo.swarm),
        "MERGE_METHOD": demo.merge,
        "TRANSFER_COMPRESSION": demo.compression,
    }
    plan = SwarmPlan(demo.swarm / "local", len(demo.nodes), demo.chain, demo.command, environment=environment)
    if not await up(plan, history, stop):
        return None
    timed = Timed(swarm_began - began, time.monotonic() - swarm_began)
    return comparison(demo, history, apart, collect_models(demo, "node-{index}"), timed)


def comparison(
    demo: Demo, history: History, apart: dict[str, float], digests: dict[str, str], timed: Timed
) -> dict[str, Any]:
    """The content of report.json. ``apart``: accuracy by run. Raises DigestsDiffer."""
    if set(digests.values()) != {history.chain_digest}:
        raise DigestsDiffer(digests=digests, chain=history.chain_digest, dir=demo.swarm)
    return {
        "example": demo.example,
        "framework": demo.framework,
        "chain": history.chain,
        "merge": demo.merge,
        "compression": demo.compression,
        "rounds": history.rounds,
        "accuracy": {
            "central": apart[CENTRAL],
            "swarm": fmean(accuracy(demo.out / f"{node}.json") for node in demo.nodes),
            "nodes": [apart[node] for node in demo.nodes],
        },
        "digests": digests,
        "chain_digest": history.chain_digest,
        "seconds": round(timed.before + timed.swarm, 1),
        "swarm_seconds": round(timed.swarm, 1),
        "history": history.as_data(),
    }


def make_room(demo: Demo) -> None:
    """Nothing of an earlier demo stays. Raises AlreadyRunning, DirUnusable."""
    with claimed(demo.swarm / "local"):
        for path in (demo.apart, demo.swarm):
            shutil.rmtree(path, ignore_errors=True)
        for path in (*demo.out.glob("*.safetensors"), *demo.out.glob("*.json"), demo.out / "rounds.png"):
            path.unlink(missing_ok=True)


def runs_apart(demo: Demo) -> dict[str, tuple[int, str]]:
    """Index and shard of each run: every node alone, and all data together."""
    return {node: (index, str(index)) for index, node in enumerate(demo.nodes)} | {CENTRAL: (0, "all")}


async def train_apart(demo: Demo, stop: asyncio.Event) -> dict[str, float]:
    """Test accuracy by run: every node alone, and all data together. Raises ChildFailed."""
    seats = asyncio.Semaphore(AT_ONCE)
    runs = runs_apart(demo)

    async def train(name: str, index: int, shard: str) -> None:
        async with seats:
            environment = program_environment(
                SWARM_LOOPBACK="true", SWARM_NODE_INDEX=str(index), SWARM_NODE_COUNT=str(len(demo.nodes)),
                DATA_SHARD=shard, RUN_NAME=name, OUTPUT_DIR=str(demo.apart),
            )  # fmt: skip
            child = Child.start(Launch(name, demo.command, demo.apart / f"{name}.log", environment, is_node=False))
            try:
                if await child.wait() != 0:
                    raise child.failure()
            finally:
                await child.stop()

    work = asyncio.gather(*(train(name, *run) for name, run in runs.items()))
    stopped = asyncio.create_task(stop.wait())
    try:
        waiting: set[asyncio.Future[Any]] = {work, stopped}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return {}
        work.result()
    finally:
        stopped.cancel()
        work.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)
    return {name: accuracy(demo.apart / f"{name}.json") for name in runs}


def accuracy(path: Path) -> float:
    """What a run measured on its test set."""
    return float(json.loads(path.read_text())["accuracy"])


def collect_models(demo: Demo, left_as: str) -> dict[str, str]:
    """Moves what every node has left to the output directory; digests of the models by node, in hexadecimal.

    ``left_as``: what a run calls its results, with ``{index}`` from 0.
    """
    digests = {}
    for index, node in enumerate(demo.nodes):
        left = demo.swarm / left_as.format(index=index, number=index + 1)
        left.with_suffix(".json").rename(demo.out / f"{node}.json")
        model = left.with_suffix(".safetensors").rename(demo.out / f"{node}.safetensors")
        digests[node] = digest_of_file(model).digest().hex()
    return digests


def table(report: dict[str, Any]) -> str:
    """The comparison for people."""
    found = report["accuracy"]
    rows = [(f"{node} alone", value) for node, value in zip(report["digests"], found["nodes"], strict=True)]
    rows += [("swarm of all", found["swarm"]), ("all data on one machine", found["central"])]
    lines = [f"  {name:<26}{value:.4f}" for name, value in rows]
    model = f"One model on {len(report['digests'])} nodes and on the chain: {report['chain_digest'][:16]}…"
    return "\n".join(["", "  accuracy on the test set", "  " + "-" * 32, *lines, "", f"  {model}"])


def arguments(
    prog: str, description: str | None, frameworks: tuple[str, ...] = ("keras", "torch")
) -> argparse.ArgumentParser:
    """What every demo may be told."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--framework", choices=frameworks, default=frameworks[0])
    parser.add_argument("--merge", choices=tuple(METHODS), default="mean")
    parser.add_argument("--compression", choices=COMPRESSIONS, default="none")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    return parser


def conclude(demo: Demo, run: Callable[[asyncio.Event], Awaitable[dict[str, Any] | None]]) -> int:
    """Runs it, and writes and prints its report; gives the exit code."""
    report: dict[str, Any] | None = None

    async def show(stop: asyncio.Event, _ready: ReadySocket) -> None:
        nonlocal report
        report = await run(stop)

    exit_code = run_node(show)
    if report is None:
        return exit_code or INTERRUPTED
    (demo.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    plot(report, demo.out / "rounds.png")
    print(table(report))
    how = f"{report['rounds']} rounds, merge {report['merge']}, chain {report['chain']}, {report['seconds']} s"
    print(f"\n  {how}. See {demo.out}.")
    return exit_code


def main() -> int:
    parser = arguments("python -m examples.digits.demo", __doc__)
    parser.add_argument("--chain", choices=("auto", "geth", "embedded"), default="auto")
    given = parser.parse_args()
    demo = Demo(given.framework, given.chain, given.merge, given.compression, given.out.absolute())
    return conclude(demo, lambda stop: run(demo, stop))


if __name__ == "__main__":
    sys.exit(main())
