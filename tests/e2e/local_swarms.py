"""Whole swarms for tests: what a run showed, in a form that a test can wait for."""

import asyncio
import sys
from pathlib import Path

import pytest

from services.local.plan import CODE_ROOT, SwarmPlan
from services.local.process import Child, Launch, node_environment
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from swarm_callback.digest import digest_of_file

PROGRAMS = Path(__file__).parent / "programs"
DEADLINE_S = 90.0


class Recorder:
    """A view that keeps everything it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.statuses: list[pb.TrainingStatus] = []
        self.client: SNClient | None = None
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def say(self, line: str) -> None:
        self.lines.append(line)
        self._wake()

    def connected(self, client: SNClient, chain: str) -> None:
        self.client = client

    def update(self, status: pb.TrainingStatus) -> None:
        self.statuses.append(status)
        self._wake()

    def close(self) -> None:
        """What was kept stays."""

    @property
    def last(self) -> pb.TrainingStatus:
        return self.statuses[-1]

    async def said(self, words: str) -> None:
        """Returns once a line with these words was said; fails with all lines after the deadline."""
        await self._until(lambda: any(words in line for line in self.lines), f"'{words}'")

    async def accepted(self, round_: int) -> None:
        """Returns once this round has a result."""
        await self._until(
            lambda: any(status.last_result.round >= round_ for status in self.statuses), f"a result of round {round_}"
        )

    async def _until(self, holds, what: str) -> None:  # type: ignore[no-untyped-def]
        try:
            async with asyncio.timeout(DEADLINE_S), self._news:
                await self._news.wait_for(holds)
        except TimeoutError:
            pytest.fail("\n".join([f"{what} did not come; what was said:", *self.lines]))

    def _wake(self) -> None:
        async def notify() -> None:
            async with self._news:
                self._news.notify_all()

        task = asyncio.get_running_loop().create_task(notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class SwarmPlans:
    """Plans of swarms whose programs behave as a test wants, in a directory of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.out = directory / "out"
        self.out.mkdir()

    def plan(
        self, behaviour: str = "train", *, sl_count: int = 3, chain: str = "embedded", rounds: int = 3
    ) -> SwarmPlan:
        command = (sys.executable, str(PROGRAMS / "train.py"), behaviour, str(self.out), str(rounds))
        return SwarmPlan(self.directory / "swarm", sl_count, chain, command)

    def idle(self, *, sl_count: int = 1, chain: str = "embedded") -> SwarmPlan:
        """No programs: somebody attaches them."""
        return SwarmPlan(self.directory / "swarm", sl_count, chain)

    def digests(self) -> list[bytes]:
        """Of the final models that the programs wrote, by node."""
        return [digest_of_file(path).digest() for path in sorted(self.out.glob("*.safetensors"))]


def processes_of(directory: Path) -> list[str]:
    """Command lines of the processes on this machine that have to do with a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line:
            found.append(line)
    return found


def swarm_command(directory: Path, *arguments: str, name: str = "swarm") -> Child:
    """`swarm` as a process; ready, for `swarm up`, when its nodes are. Its output is ``directory/<name>.log``."""
    argv = (sys.executable, "-m", "services.cli", *arguments)
    return Child.start(Launch(name, argv, directory / f"{name}.log", node_environment(), cwd=CODE_ROOT))
