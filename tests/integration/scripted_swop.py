"""A SWOP controlled by a test."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn.directory import DEFAULT_RUNNER

WITHIN_S = 60.0


@dataclass
class Swop:
    """``seen``: all states from its stream."""

    client: SNClient
    name: str
    seen: list[pb.RunnerStatus] = field(default_factory=list)
    _watching: asyncio.Task[None] | None = None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def attend(self, pairs: int = 1, runner: str = DEFAULT_RUNNER) -> pb.RunnerStatus:
        await self.client.network.Register(pb.RegisterRequest())
        known = len(self.seen)  # of an earlier stream: it counts as present only when this one is open
        self.watch()
        await self.until(lambda _: len(self.seen) > known)
        request = pb.AttendRequest(runner=runner, group="hospital", sl_peers=pairs)
        return (await self.client.runners.Attend(request)).status

    async def enrol(self, assignment: int, peers: int) -> pb.RunnerStatus:
        request = pb.EnrolInTaskRequest(runner=DEFAULT_RUNNER, assignment=assignment, peers=peers)
        return (await self.client.runners.EnrolInTask(request)).status

    async def report(self, assignment: int, index: int, state: int, **said: str) -> pb.RunnerStatus:
        request = pb.ReportPeerRequest(runner=DEFAULT_RUNNER, assignment=assignment, index=index, state=state, **said)  # type: ignore[arg-type]
        return (await self.client.runners.ReportPeer(request)).status

    async def release(self, assignment: int) -> None:
        await self.client.runners.Release(pb.ReleaseRequest(runner=DEFAULT_RUNNER, assignment=assignment))

    def watch(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def until(self, wanted: Callable[[pb.RunnerStatus], bool]) -> pb.RunnerStatus:
        async with asyncio.timeout(WITHIN_S), self._changed:
            await self._changed.wait_for(lambda: bool(self.seen) and wanted(self.seen[-1]))
            return self.seen[-1]

    async def _watch(self) -> None:
        async for status in self.client.watch_runner(DEFAULT_RUNNER):
            async with self._changed:
                self.seen.append(status)
                self._changed.notify_all()
