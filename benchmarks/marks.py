"""Where a benchmark and its programs wait for each other, so that what is read between belongs to whole rounds."""

import asyncio
import json
from pathlib import Path
from typing import Any

from services.local.process import Child


class Marks:
    """Programs connect to ``path``; each says a line of JSON at a mark and goes on when it hears one."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self._count = count
        self._said: asyncio.Queue[tuple[dict[str, Any], asyncio.StreamWriter]] = asyncio.Queue()
        self._reading: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Marks":
        self._server = await asyncio.start_unix_server(self._connected, self.path, limit=1 << 24)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._reading:
            task.cancel()

    async def all_there(self, programs: list[Child], within_s: float) -> "ProgramBarrier":
        """Returns once every program waits at a mark. Raises ChildFailed, TimeoutError."""
        async with asyncio.timeout(within_s):
            return ProgramBarrier([await self._next(programs) for _ in range(self._count)])

    async def _next(self, programs: list[Child]) -> tuple[dict[str, Any], asyncio.StreamWriter]:
        said = asyncio.ensure_future(self._said.get())
        waits: set[asyncio.Future[Any]] = {said, *(child.exited for child in programs)}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if said.done():
            return said.result()
        said.cancel()
        raise next(child for child in programs if child.exited.done()).failure()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._reading.add(task)
        while line := await reader.readline():
            self._said.put_nowait((json.loads(line), writer))


class ProgramBarrier:
    """All programs, waiting. ``facts``: what each said, in the order of the nodes."""

    def __init__(self, waiting: list[tuple[dict[str, Any], asyncio.StreamWriter]]) -> None:
        waiting.sort(key=lambda entry: int(entry[0]["node"]))
        self.facts = [said for said, _ in waiting]
        self._writers = [writer for _, writer in waiting]

    def go(self) -> None:
        for writer in self._writers:
            writer.write(b"\n")


async def ended(programs: list[Child], within_s: float) -> None:
    """Returns once all have ended well. Raises ChildFailed, TimeoutError."""
    async with asyncio.timeout(within_s):
        codes = await asyncio.gather(*(child.wait() for child in programs))
    for child, code in zip(programs, codes, strict=True):
        if code:
            raise child.failure()
