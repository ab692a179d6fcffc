"""What benchmarks that start SLs in a way of their own begin with: certificates, a license server, one SN."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.errors import NetworkError
from services.identity.authority import IssuedFiles
from services.identity.identity import Identity
from services.local.certificates import admin_identity, certificates
from services.local.plan import ADMIN, HOST, LICENSE_SERVER, SN, SwarmPlan
from services.local.process import Child
from services.local.swarm import CONTRACT
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient


@dataclass
class Base:
    """The nodes that run, as ``Child`` by name, and what an SL is told of them."""

    plan: SwarmPlan
    files: dict[str, IssuedFiles]
    admin: Identity
    children: dict[str, Child] = field(default_factory=dict)
    license_port: int = 0
    sn_port: int = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, plan: SwarmPlan) -> AsyncIterator["Base"]:
        """All that was started is stopped at the end, last the license server. Raises ChildFailed, NotReady."""
        files = certificates(plan)
        base = cls(plan, files, admin_identity(plan.directory, ADMIN))
        try:
            base.license_port = await base.start_node(Child.start(plan.license_server(files[LICENSE_SERVER])))
            base.sn_port = await base.start_node(Child.start(plan.sn(0, files[SN], license_port=base.license_port)))
            yield base
        finally:
            for child in reversed(base.children.values()):
                await child.stop()

    async def start_node(self, child: Child) -> int:
        """Waits until it is ready; gives its port."""
        self.children[child.name] = child
        return int((await child.ready())["port"])

    def client(self) -> SNClient:
        return SNClient(f"{HOST}:{self.sn_port}", self.admin)

    @property
    def geth_pid(self) -> int:
        return int((self.plan.directory / SN / "eth" / "geth.pid").read_text())


def busy_s(pid: int) -> float:
    """Seconds of processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Accepted:
    """A result as the SN told it. ``at``: seconds of the monotonic clock."""

    round: int
    merged: tuple[str, ...]
    at: float
    leader: str = ""
    digest: str = ""


class Results:
    """Follows the accepted rounds of the training, as they come."""

    def __init__(self) -> None:
        self.accepted: list[Accepted] = []
        self.state = pb.RoundState.UNCONFIGURED
        self._changed = asyncio.Condition()

    async def follow(self, client: SNClient) -> None:
        """Until it is cancelled."""
        seen = 0
        while True:
            with contextlib.suppress(NetworkError):
                async for status in client.watch(CONTRACT, seen):
                    seen = status.version
                    await self._take(status)

    async def _take(self, status: pb.TrainingStatus) -> None:
        at, last = time.monotonic(), status.last_result
        async with self._changed:
            self.state = status.state
            if last.round and (not self.accepted or last.round > self.accepted[-1].round):
                self.accepted.append(Accepted(last.round, tuple(last.merged), at, last.leader, last.digest.hex()))
            self._changed.notify_all()

    async def first(self, fits: Callable[[Accepted], bool], within_s: float) -> Accepted:
        """The first result that fits, of those there are or of those that come. Raises TimeoutError."""
        async with asyncio.timeout(within_s), self._changed:
            looked_at = 0
            while True:
                for result in self.accepted[looked_at:]:
                    if fits(result):
                        return result
                looked_at = len(self.accepted)
                await self._changed.wait()


def say(text: str) -> None:
    """Progress, on stderr: stdout ends with the figures."""
    print(text, file=sys.stderr, flush=True)
