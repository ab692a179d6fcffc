"""The processes of a run, forked from one that has loaded their code: stopped, frozen, and caught in traps."""

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from services.local.forking import ForkServer, fork_server
from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, node_environment

LOADED = (
    "benchmarks.log_traps", "services.chain.geth", "services.cli.commands", "services.cli.nodes",
    "services.license_server.main", "services.license_server.settings", "services.sl.main", "services.sl.settings",
    "services.sn.main", "services.sn.settings", "swarm_callback.base", "swarm_callback.digest",
)  # fmt: skip


class Process:
    """A child that may stand still. ``exited``: its exit code as a future, negative for the signal that ended it."""

    def __init__(self, child: Child) -> None:
        self.name = child.name
        self.log = child.log
        self.exited = child.exited
        self._child = child
        self._halted = asyncio.Event()

    @property
    def alive(self) -> bool:
        return not self.exited.done()

    @property
    def is_stopped(self) -> bool:
        return self._halted.is_set()

    async def ready(self) -> dict[str, Any]:
        """What it reports when it is ready. Raises ChildFailed, NotReady."""
        return await self._child.ready()

    async def caught(self) -> None:
        """Returns when it has stopped itself in a trap."""
        await self._halted.wait()

    def kill(self) -> None:
        """At once, with its whole group."""
        self._child.kill()

    async def freeze(self) -> None:
        """Returns when it stands still, or has ended."""
        self._signal(signal.SIGSTOP)
        caught = asyncio.create_task(self.caught())
        await asyncio.wait({caught, self.exited}, return_when=asyncio.FIRST_COMPLETED)
        caught.cancel()

    def thaw(self) -> None:
        self._halted.clear()
        self._signal(signal.SIGCONT)

    async def wait(self, within_s: float) -> int | None:
        """Its exit code; None where it has not ended by then."""
        await asyncio.wait({self.exited}, timeout=within_s)
        return self.exited.result() if self.exited.done() else None

    async def stop(self) -> bool:
        """TERM, wait, KILL. True where the KILL was needed."""
        self.thaw()
        return await self._child.stop()

    @property
    def written(self) -> int:
        """Bytes of its log."""
        return self.log.stat().st_size if self.log.exists() else 0

    def says(self, words: str, since: int) -> bool:
        """Whether these stand in its log behind so many bytes."""
        with self.log.open("rb") as log:
            log.seek(since)
            return words.encode() in log.read()

    def tail(self) -> str:
        return self._child.tail()

    def last_words(self) -> str:
        """The error that it ended with, or else its last line."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")

    def look(self) -> None:
        """Whether it has stopped."""
        if self.alive:
            with suppress(ChildProcessError):  # it has ended, which its future is about to say
                if os.waitid(os.P_PID, self._child.pid, os.WSTOPPED | os.WNOHANG) is not None:
                    self._halted.set()

    def _signal(self, number: signal.Signals) -> None:
        """It has not been reaped: its number is its own."""
        if self.alive:
            os.kill(self._child.pid, number)


class Forks:
    """Whatever of a world and its runs is a process."""

    def __init__(self, forks: ForkServer, opened: AsyncExitStack) -> None:
        self._forks = forks
        self._opened = opened
        self._alive: list[Process] = []

    @classmethod
    async def open(cls, directory: Path) -> "Forks":
        """Raises ChildFailed, NotReady."""
        opened = AsyncExitStack()
        server = fork_server(directory / "forks.log", LOADED, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
        forks = cls(await opened.enter_async_context(server), opened)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, _look)
        return forks

    def start(self, launch: Launch) -> Process:
        """Raises ChildFailed."""
        process = Process(Child.start(launch, self._forks))
        self._alive = [*(one for one in self._alive if one.alive), process]
        _children.add(process)
        return process

    async def close(self) -> None:
        """What still runs is killed."""
        alive = [process for process in self._alive if process.alive]
        for process in alive:
            process.kill()
        await asyncio.gather(*(process.exited for process in alive))
        await self._opened.aclose()


_children: WeakSet[Process] = WeakSet()


def _look() -> None:
    """Something has become of some child of this process; the signal does not say of which."""
    for process in list(_children):
        process.look()


def node(  # noqa: PLR0917
    name: str, arguments: list[str], log: Path, environment: dict[str, str], traps: Path, namespace: str, before: str
) -> Launch:
    """How `swarm` is started with these arguments. ``traps``: where its log may spring some (benchmarks.log_traps).

    ``namespace``: of the network, '' for that of this process. ``before``: ``module:function``, called in it first.
    """
    argv = (sys.executable, "-m", "tests.chaos.altered", namespace, before, str(traps), name, *arguments)
    return Launch(name, argv, log, environment, cwd=CODE_ROOT)


def program(name: str, settings: Path, log: Path, environment: dict[str, str]) -> Launch:
    """How an ML program is started. ``settings``: the file with those of tests.chaos.trainer."""
    argv = (sys.executable, "-m", "tests.chaos.trainer", str(settings))
    return Launch(name, argv, log, environment, cwd=CODE_ROOT, is_node=False)


def base_environment(**more: str) -> dict[str, str]:
    """What a node or a program gets: nothing of ours but what is given."""
    return {**node_environment(), "OPENBLAS_NUM_THREADS": "1", "HOME": os.environ.get("HOME", "/"), **more}
