"""Work that nobody waits for: its failures are logged, or end the node, and it ends with the node."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from services.errors import SwarmError
from services.runtime import logs

_log = logs.get("sn")


class Background:
    """Tasks that run until they are done or ``close`` cancels them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def run(self, work: Coroutine[Any, Any, None], what: str, *, vital: bool = False) -> None:
        """Starts ``work``; ``what`` names it in the log, should it fail. The node cannot do without vital work."""
        task = asyncio.create_task(self._watched(work, what, vital), name=what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def broken(self) -> None:
        """Returns never; raises the error that ended vital work."""
        await asyncio.shield(self._broken)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._broken.cancel()

    async def _watched(self, work: Coroutine[Any, Any, None], what: str, vital: bool) -> None:
        try:
            await work
        except Exception as error:
            if isinstance(error, SwarmError):
                _log.warning(f"{what} failed", reason=str(error))
            else:
                _log.exception(f"{what} failed")
            if vital and not self._broken.done():
                self._broken.set_exception(error)
