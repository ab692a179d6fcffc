"""Carries out one assignment: starts what it needs, watches it, and reports the state of each peer."""

import asyncio
import contextlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.errors import NeverTrained, PeerFailed, SwarmError, TaskRefused
from services.rpc import swarm_pb2 as pb
from services.runtime import logs
from services.swop.executors.base import Executor, joined
from services.swop.executors.spec import BuildSpec, NodeState, PullSpec, StartedProgram
from services.swop.pairs import LABEL, PairSpec, labels_of
from services.tasks.definition import MakeUserContainer, PullImage

SETTLE_S = 10.0  # an SL ends within this time after its program succeeded, or the program never used it
PARTNER_S = 5.0  # when one of a pair fails, the other may know why
STOP_GRACE_S = 10.0
REPORT_LINES_EVERY_S = 2.0

_log = logs.get("swop")


@dataclass(frozen=True)
class PeerNews:
    """The state of one peer. ``name``: that of its SL, if it has one."""

    index: int
    state: int
    description: str
    name: str = ""


Tell = Callable[[PeerNews], Awaitable[None]]
TakesPart = Callable[[str], Awaitable[bool]]


class AssignmentWork(ABC):
    """The work of an assignment. ``run`` may be cancelled: programs go on, and are later adopted or removed."""

    @abstractmethod
    async def run(self, tell: Tell) -> None:
        """Returns when all its peers have ended and each end was reported."""


class PairsWork(AssignmentWork):
    """The pairs of a RUN_SWARM task. Pairs that still run from before a restart of the SWOP are adopted.

    ``takes_part(name)``: whether an SL of that name has enrolled in any training. ``names``: of the SLs by index.
    """

    def __init__(
        self,
        executor: Executor,
        pairs: Sequence[PairSpec],
        names: dict[int, str],
        takes_part: TakesPart,
        run_time_s: float | None = None,
    ) -> None:
        self._executor = executor
        self._pairs = pairs
        self._names = names
        self._takes_part = takes_part
        self._run_time_s = run_time_s

    async def run(self, tell: Tell) -> None:
        await asyncio.gather(*(self._pair(index, spec, tell) for index, spec in enumerate(self._pairs)))

    async def _pair(self, peer: int, spec: PairSpec, tell: Tell) -> None:
        name = self._names.get(spec.index, "")
        try:
            sl, ml = await self._started(spec)
            _log.info("pair started", index=spec.index, sl=sl.name, ml=ml.name)
            await tell(PeerNews(peer, pb.PEER_RUNNING, f"Created containers to match profile : {sl.name}", name))
            async with asyncio.timeout(self._run_time_s):
                await self._ended_well(spec, sl, ml, name)
        except TimeoutError:
            await self._stop(spec)
            problem = TaskRefused(task=f"pair {spec.index}", problem=f"it ran longer than {self._run_time_s:.0f} s")
            await self._failed(peer, name, problem, tell)
        except SwarmError as error:
            await self._stop(spec)
            await self._failed(peer, name, error, tell)
        else:
            _log.info("pair completed", index=spec.index)
            await tell(PeerNews(peer, pb.PEER_COMPLETE, "Training completed", name))

    async def _failed(self, peer: int, name: str, error: SwarmError, tell: Tell) -> None:
        _log.warning("pair failed", peer=peer, why=str(error))
        await tell(PeerNews(peer, pb.PEER_ERROR, str(error), name))

    async def _started(self, spec: PairSpec) -> tuple[StartedProgram, StartedProgram]:
        """The nodes of a pair: the existing ones, or new ones unless both exist."""
        wanted = {
            name: value for name, value in spec.sl.labels.items() if name.startswith(LABEL) and name != f"{LABEL}node"
        }
        there = {node.labels[f"{LABEL}node"]: node for node in await self._executor.find(wanted)}
        if {"sl", "ml"} <= there.keys():
            _log.info("pair adopted", index=spec.index)
            return there["sl"], there["ml"]
        await remove(self._executor, wanted)
        for volume in spec.volumes:
            await self._executor.create_volume(volume)
        return await self._executor.start(spec.sl), await self._executor.start(spec.ml)

    async def _ended_well(self, spec: PairSpec, sl: StartedProgram, ml: StartedProgram, name: str) -> None:
        """Returns when both have ended with exit code 0. Raises PeerFailed, NeverTrained."""
        waits = {kind: asyncio.create_task(self._executor.wait(node.id)) for kind, node in (("sl", sl), ("ml", ml))}
        try:
            await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
            if waits["sl"].done() and waits["sl"].result().exit_code != 0:
                await asyncio.wait({waits["ml"]}, timeout=PARTNER_S)
                raise await self._cause(sl, ml, waits)
            if not waits["ml"].done():
                await asyncio.wait({waits["ml"]})
            if waits["ml"].result().exit_code != 0:
                await asyncio.wait({waits["sl"]}, timeout=PARTNER_S)
                raise await self._cause(sl, ml, waits)
            await asyncio.wait({waits["sl"]}, timeout=SETTLE_S)
            if not waits["sl"].done() and name and not await self._takes_part(name):
                raise NeverTrained(program=ml.name, node=sl.name, log="its log: " + await self._tail(ml))
            if (await waits["sl"]).exit_code != 0:
                raise await self._cause(sl, ml, waits)
        finally:
            for task in waits.values():
                task.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)

    async def _cause(
        self, sl: StartedProgram, ml: StartedProgram, waits: dict[str, "asyncio.Task[StartedProgram]"]
    ) -> PeerFailed:
        """Prefers the program's own output if it failed, too: the SL knows only that the program is gone."""
        program = waits["ml"].result() if waits["ml"].done() else None
        if program is not None and program.exit_code != 0:
            problem = "out of memory" if program.out_of_memory else "its last lines:"
            return PeerFailed(
                what=f"The program {ml.name}", exit=program.exit_code, problem=problem, tail=await self._tail(ml)
            )
        ended = waits["sl"].result()
        return PeerFailed(
            what=f"The SL {sl.name}", exit=ended.exit_code, problem="its last lines:", tail=await self._tail(sl)
        )

    async def _tail(self, node: StartedProgram) -> str:
        with contextlib.suppress(SwarmError):
            return joined(await self._executor.tail(node.id))
        return ""

    async def _stop(self, spec: PairSpec) -> None:
        """Stops a pair: when one of its nodes has failed, the other has nothing left to do."""
        wanted = {
            name: value for name, value in spec.sl.labels.items() if name.startswith(LABEL) and name != f"{LABEL}node"
        }
        with contextlib.suppress(SwarmError):
            nodes = await self._executor.find(wanted)
            await asyncio.gather(*(self._executor.stop(node.id, STOP_GRACE_S) for node in nodes))


class BuildWork(AssignmentWork):
    """Builds an image from build steps."""

    def __init__(self, executor: Executor, spec: BuildSpec) -> None:
        self._executor = executor
        self._spec = spec

    async def run(self, tell: Tell) -> None:
        await tell(PeerNews(0, pb.PEER_RUNNING, "Build thread has started"))
        await _narrated(self._executor.build(self._spec), tell, "Build Task Completed")


class PullWork(AssignmentWork):
    """Pulls an image from a registry."""

    def __init__(self, executor: Executor, spec: PullSpec) -> None:
        self._executor = executor
        self._spec = spec

    async def run(self, tell: Tell) -> None:
        await tell(PeerNews(0, pb.PEER_RUNNING, f"Pulling {self._spec.repository}:{self._spec.tag}"))
        await _narrated(self._executor.pull(self._spec), tell, "Pull Task Completed")


async def _narrated(lines: object, tell: Tell, done: str) -> None:
    """Follows a build or pull and reports its newest line now and then."""
    loop = asyncio.get_running_loop()
    told = loop.time()
    try:
        async for line in lines:  # type: ignore[attr-defined]
            _log.info(line)
            if loop.time() - told > REPORT_LINES_EVERY_S:
                told = loop.time()
                await tell(PeerNews(0, pb.PEER_RUNNING, line))
    except SwarmError as error:
        _log.warning("task failed", why=str(error))
        await tell(PeerNews(0, pb.PEER_ERROR, str(error)))
    else:
        await tell(PeerNews(0, pb.PEER_COMPLETE, done))


def build_spec(body: MakeUserContainer, outcome: str, labels: dict[str, str]) -> BuildSpec:
    image = outcome if ":" in outcome.rpartition("/")[2] else f"{outcome}:latest"
    return BuildSpec(image, tuple(body.build_steps), body.build_context, network="host", labels=labels)


def pull_spec(body: PullImage) -> PullSpec:
    return PullSpec(f"{body.registry}/{body.repository}", body.tag, body.auth)


def new_secret() -> str:
    return secrets.token_hex(8)


async def remove(executor: Executor, labels: dict[str, str]) -> None:
    """Removes first the nodes, then the volumes that have all these labels."""
    for node in await executor.find(labels):
        await executor.remove(node.id)
    for volume in await executor.find_volumes(labels):
        await executor.remove_volume(volume.name)


@dataclass(frozen=True)
class Cleaning:
    """Removes what an assignment left. ``finish_grace_s``: for programs that may be saving their model."""

    executor: Executor
    swop: str
    runner: str
    finish_grace_s: float
    keep: bool
    authority: str = ""

    async def clean(self, assignment: int) -> None:
        """Returns when nothing of the assignment runs any more, and nothing is left unless ``keep``."""
        labels = labels_of(self.swop, self.runner, assignment, authority=self.authority)
        nodes = await self.executor.find(labels)
        await asyncio.gather(*(self._let_finish(node, nodes) for node in nodes if node.state is NodeState.RUNNING))
        nodes = await self.executor.find(labels)
        await asyncio.gather(*(self.executor.stop(node.id, STOP_GRACE_S) for node in nodes))
        if not self.keep:
            await remove(self.executor, labels)

    async def _let_finish(self, node: StartedProgram, nodes: Sequence[StartedProgram]) -> None:
        """Waits for a program whose SL has succeeded: it may be saving what it trained."""
        if node.labels.get(f"{LABEL}node") != "ml":
            return
        index = node.labels.get(f"{LABEL}index")
        sl = [
            other
            for other in nodes
            if other.labels.get(f"{LABEL}node") == "sl" and other.labels.get(f"{LABEL}index") == index
        ]
        if not sl or sl[0].state is not NodeState.EXITED or sl[0].exit_code != 0:
            return
        _log.warning(
            "a program is still running after its training", program=node.name, for_at_most_s=self.finish_grace_s
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.finish_grace_s):
                await self.executor.wait(node.id)
