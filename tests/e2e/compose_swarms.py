"""Swarms of Docker Compose for tests: a small program instead of a framework."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from images import ML, TAG, named

from examples.digits.compose_swarm import ComposeSwarm, ContainersFailed, docker, hand_over
from services.errors import NetworkError
from services.local.swarm import CONTRACT
from services.rpc import swarm_pb2 as pb
from swarm_callback.digest import digest_of_file

PROGRAMS = Path(__file__).parent / "programs"
WITHIN_S = 240.0
RETRY_S = 0.2


class Trained:
    """A swarm that is up, and its training as a test sees it."""

    def __init__(self, swarm: ComposeSwarm, certificate: Path) -> None:
        self.swarm = swarm
        self._certificate = certificate

    async def until(self, fits: Callable[[pb.TrainingStatus], bool]) -> pb.TrainingStatus:
        """The first state that fits, as the first SN tells it; it may be started again meanwhile."""
        last = None
        try:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    with contextlib.suppress(NetworkError, ContainersFailed):
                        async with await self.swarm.client(self._certificate) as client:
                            async for last in client.watch(CONTRACT):
                                if fits(last):
                                    return last
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.Event().wait(), RETRY_S)
        except TimeoutError:
            raise AssertionError(f"the training never came so far:\n{last}\n{await self.said()}") from None

    async def accepted(self, round_: int) -> None:
        await self.until(lambda status: status.last_result.round >= round_)

    async def tell(self, word: str) -> None:
        """Leaves a file of this name where the programs look."""
        (self.swarm.out / word).touch()

    async def digests(self) -> set[str]:
        """Of the models that all peers have left, when their programs have ended well."""
        names = [self.swarm.container(f"ml-{number + 1}") for number in range(self.swarm.peers)]
        ended = await docker("wait", *names)
        assert ended.split() == ["0"] * len(names), await self.said()
        models = list(self.swarm.out.glob("*.safetensors"))
        assert len(models) == len(names)
        return {digest_of_file(path).digest().hex() for path in models}

    async def said(self) -> str:
        return (await self.swarm.compose("logs", "--no-color", "--tail", "25"))[-12_000:]


@contextlib.asynccontextmanager
async def trained(directory: Path, project: str, program: str, **settings: Any) -> AsyncIterator[Trained]:
    """Up with three peers, that run ``program`` of ``programs``; nothing is left at the end."""
    out, programs = directory / "out", directory / "programs"
    out.mkdir()
    hand_over(out)
    shutil.copytree(PROGRAMS, programs)
    for path in (directory, programs):
        path.chmod(0o755)
    told = {
        "TAG": TAG, "ML_IMAGE": named(ML), "PROGRAMS": str(programs),
        "PROGRAM": f"python3 /programs/{program}", **settings,
    }  # fmt: skip
    swarm = ComposeSwarm(project, out, settings=told)
    try:
        await swarm.up()
        yield Trained(swarm, directory / "certificate")
    finally:
        await swarm.down()
    assert await docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}") == ""
    assert await docker("volume", "ls", "--quiet", "--filter", f"name=^{project}_") == ""
    assert await docker("network", "ls", "--quiet", "--filter", f"name=^{project}$") == ""
