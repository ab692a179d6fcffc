"""The demo out of containers: a swarm of Docker Compose learns one model, compared with learning apart.

``python -m examples.digits.compose_demo [--framework keras|torch] [--merge METHOD] [--compression none|lossless|bf16]
[--out DIR] [--no-build]``
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from examples.digits.compose_swarm import (
    NODE_IMAGES,
    ComposeSwarm,
    ContainersFailed,
    build_images,
    docker,
    hand_over,
    run_as,
)
from examples.digits.demo import (
    AT_ONCE,
    NODES,
    Demo,
    Timed,
    accuracy,
    arguments,
    collect_models,
    comparison,
    conclude,
    make_room,
    runs_apart,
)
from examples.digits.history import History
from services.errors import LocalError
from services.local.swarm import CONTRACT
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient

WITHIN_S = 1800.0
TAG = os.environ.get("TAG", "latest")
TEMPORARY = "/tmp"  # noqa: S108 - inside a container, where it is nobody else's
PROJECT = f"swarm-demo-{os.getpid()}"


class NotDone(LocalError):
    """The training goes on and on."""

    code = "demo-not-done"
    message = "The swarm in containers has not finished within {seconds:.0f} s"
    remedy = "What its containers have said is in {log}."


async def run(demo: Demo, build: bool) -> dict[str, Any]:
    """The content of report.json. ``build``: the images first, of this checkout. Raises SwarmError."""
    began = time.monotonic()
    make_room(demo)
    for folder in (demo.apart, demo.swarm):
        folder.mkdir(parents=True, exist_ok=True)
        hand_over(folder)
    if build:
        log = demo.out / "build.log"
        log.unlink(missing_ok=True)
        print(f"Images of nodes and program; the first time takes minutes, and {log} says how it ended ...", flush=True)
        await build_images(f"digits-{demo.framework}", *NODE_IMAGES, log=log, tag=TAG)
    print(f"Each node alone with its own digits, and all data on one machine ({demo.framework}) ...", flush=True)
    apart = await train_apart(demo)
    print(f"{NODES} nodes in a swarm of containers; their data stay with them ...", flush=True)
    swarm_began = time.monotonic()
    history = await train_together(demo)
    timed = Timed(swarm_began - began, time.monotonic() - swarm_began)
    return comparison(demo, history, apart, collect_models(demo, "sl-{number}"), timed)


async def train_apart(demo: Demo) -> dict[str, float]:
    """Test accuracy by run, each in a container without a network. Raises ContainersFailed."""
    seats = asyncio.Semaphore(AT_ONCE)

    async def train(name: str, index: int, shard: str) -> None:
        variables = {
            "SWARM_LOOPBACK": "true", "SWARM_NODE_INDEX": index, "SWARM_NODE_COUNT": NODES, "DATA_SHARD": shard,
            "RUN_NAME": name, "OUTPUT_DIR": "/out",
        }  # fmt: skip
        told = [word for key, value in variables.items() for word in ("--env", f"{key}={value}")]
        async with seats:
            await docker(
                "run", "--rm", "--network", "none", "--read-only", "--tmpfs", TEMPORARY, "--cap-drop", "ALL",
                "--user", run_as(), "--volume", f"{demo.apart}:/out", *told, "--env", "MAX_EPOCHS",
                f"swarm-learning/digits-{demo.framework}:{TAG}", "python3", f"digits/digits_{demo.framework}.py",
            )  # fmt: skip

    async with asyncio.TaskGroup() as group:
        for name, (index, shard) in runs_apart(demo).items():
            group.create_task(train(name, index, shard))
    return {name: accuracy(demo.apart / f"{name}.json") for name in runs_apart(demo)}


async def train_together(demo: Demo) -> History:
    """From `up` to `down -v`. Raises ContainersFailed, NotDone."""
    settings = {
        "TAG": TAG, "FRAMEWORK": demo.framework, "MERGE_METHOD": demo.merge, "TRANSFER_COMPRESSION": demo.compression,
    }  # fmt: skip
    swarm = ComposeSwarm(PROJECT, demo.swarm, NODES, settings)
    history = History(lambda line: print(line, flush=True))
    said = demo.out / "containers.log"
    try:
        async with asyncio.timeout(WITHIN_S):
            await swarm.up()
            with tempfile.TemporaryDirectory(prefix="swarm-demo-") as certificate:
                async with await swarm.client(Path(certificate)) as client:
                    history.chain = (await client.network.GetInfo(pb.GetInfoRequest())).chain
                    await follow(client, history)
            await docker("wait", *(swarm.container(f"ml-{number + 1}") for number in range(NODES)))
    except TimeoutError:
        raise NotDone(seconds=WITHIN_S, log=said) from None
    finally:
        with contextlib.suppress(ContainersFailed):
            said.write_text(await swarm.compose("logs", "--no-color"))
        await swarm.down()
    return history


async def follow(client: SNClient, history: History) -> None:
    """Until the training is over. Raises NetworkError."""
    seen = 0
    while True:
        async for status in client.watch(CONTRACT, seen):
            seen = status.version
            history.update(status)
            if status.state == pb.RoundState.COMPLETE:
                return


async def until_stopped(demo: Demo, build: bool, stop: asyncio.Event) -> dict[str, Any] | None:
    """None where ``stop`` came first; then too nothing of the swarm is left."""
    work, stopped = asyncio.create_task(run(demo, build)), asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        stopped.cancel()
        return work.result()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return None


def main() -> int:
    parser = arguments("python -m examples.digits.compose_demo", __doc__)
    parser.add_argument("--no-build", action="store_true", help="take the images that are there, tagged as TAG says")
    given = parser.parse_args()
    demo = Demo(given.framework, "geth", given.merge, given.compression, given.out.absolute())
    return conclude(demo, lambda stop: until_stopped(demo, not given.no_build, stop))


if __name__ == "__main__":
    sys.exit(main())
