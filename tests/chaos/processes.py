"""The controller's side of the forking launcher: children that can be awaited, stopped, frozen, and caught in traps."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from services.errors import ChildFailed, NotReady
from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, describe_exit, node_environment
from tests.chaos.forker import Fork, request_of

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
TAIL_LINES = 15


class Process:
    """One forked child. ``exited``: its exit code as a future, negative for the signal that ended it."""

    def __init__(self, forks: "Forks", fork: Fork, pid: int) -> None:
        self.name = fork.name
        self.log = Path(fork.log)
        self.pid = pid
        self._forks = forks
        self._halted = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._said: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.exited: asyncio.Future[int] = loop.create_future()

    @property
    def alive(self) -> bool:
        return not self.exited.done()

    @property
    def is_stopped(self) -> bool:
        return self._halted.is_set()

    async def ready(self) -> dict[str, Any]:
        """What it reports when it is ready. Raises ChildFailed, NotReady."""
        waits: set[asyncio.Future[Any]] = {self._said, self.exited}
        await asyncio.wait(waits, timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if self._said.done():
            return self._said.result()
        if self.exited.done():
            code = describe_exit(self.exited.result())
            raise ChildFailed(child=self.name, exit=code, tail=self.tail(), log=self.log)
        raise NotReady(child=self.name, seconds=READY_WITHIN_S, tail=self.tail(), log=self.log)

    async def caught(self) -> None:
        """Returns when it has stopped itself in a trap."""
        await self._halted.wait()

    def kill(self) -> None:
        """At once, with its whole group."""
        self._forks.signal(self.pid, signal.SIGKILL)

    async def freeze(self) -> None:
        """Returns when it stands still, or has ended."""
        self._forks.signal(self.pid, signal.SIGSTOP, alone=True)
        caught = asyncio.create_task(self.caught())
        await asyncio.wait({caught, self.exited}, return_when=asyncio.FIRST_COMPLETED)
        caught.cancel()

    def thaw(self) -> None:
        self._halted.clear()
        self._forks.signal(self.pid, signal.SIGCONT, alone=True)

    async def wait(self, within_s: float) -> int | None:
        """Its exit code; None where it has not ended by then."""
        await asyncio.wait({self.exited}, timeout=within_s)
        return self.exited.result() if self.exited.done() else None

    async def stop(self) -> bool:
        """TERM, wait, KILL. True where the KILL was needed."""
        if self.exited.done():
            return False
        self._forks.signal(self.pid, signal.SIGTERM, alone=True)
        self.thaw()
        if await self.wait(STOP_WITHIN_S) is not None:
            return False
        self.kill()
        await asyncio.wait({self.exited}, timeout=STOP_WITHIN_S)
        return True

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
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if self.log.exists() else []
        return "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"

    def last_words(self) -> str:
        """The error that it ended with, or else its last line."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")

    def take(self, facts: dict[str, Any]) -> None:
        """News from the launcher."""
        if "ready" in facts and not self._said.done():
            self._said.set_result(facts["ready"])
        elif "stopped" in facts:
            self._halted.set()
        elif "exit" in facts and not self.exited.done():
            self.exited.set_result(facts["exit"])


class Forks:
    """One forking launcher, itself a process."""

    def __init__(self, launcher: Child, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._launcher = launcher
        self._reader = reader
        self._writer = writer
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._children: dict[int, Process] = {}
        self._early: dict[int, list[dict[str, Any]]] = {}
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, directory: Path) -> "Forks":
        """Raises ChildFailed, NotReady."""
        path = directory / "fork"
        path.unlink(missing_ok=True)
        environment = node_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
        argv = (sys.executable, "-m", "tests.chaos.forker", str(path))
        launcher = Child.start(Launch("forker", argv, directory / "forker.log", environment, cwd=CODE_ROOT))
        await launcher.ready()
        reader, writer = await asyncio.open_unix_connection(path)
        return cls(launcher, reader, writer)

    async def start(self, fork: Fork) -> Process:
        number = len(self._asked)
        self._asked[number] = asyncio.get_running_loop().create_future()
        self._writer.write(request_of(number, fork))
        pid = await self._asked[number]
        process = self._children[pid] = Process(self, fork, pid)
        for facts in self._early.pop(pid, []):
            process.take(facts)
        return process

    def signal(self, pid: int, number: signal.Signals, *, alone: bool = False) -> None:
        self._writer.write(json.dumps({"pid": pid, "signal": int(number), "alone": alone}).encode() + b"\n")

    async def close(self) -> None:
        """The launcher ends, and with it what is left of its children."""
        for process in self._children.values():
            if process.alive:
                process.kill()
        await asyncio.gather(*(process.wait(STOP_WITHIN_S) for process in self._children.values()))
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._writer.close()
        await self._launcher.stop()

    async def _listen(self) -> None:
        try:
            await self._take_all()
        finally:
            gone = ChildFailed(child="forker", exit="?", tail=self._launcher.tail(), log=self._launcher.log)
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_exception(gone)
            for child in self._children.values():
                child.take({"exit": -signal.SIGKILL})  # they end with their launcher

    async def _take_all(self) -> None:
        while line := await self._reader.readline():
            facts = json.loads(line)
            pid = facts["pid"]
            if "id" in facts:
                self._early[pid] = []
                self._children.pop(pid, None)  # an old one whose number is used again
                self._asked[facts["id"]].set_result(pid)
            elif pid in self._children:
                self._children[pid].take(facts)
            else:
                self._early[pid].append(facts)


def base_environment(**more: str) -> dict[str, str]:
    """What a node or a program gets: nothing of ours but what is given."""
    return {**node_environment(), "OPENBLAS_NUM_THREADS": "1", "HOME": os.environ.get("HOME", "/"), **more}
