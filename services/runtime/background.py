"""Work that nobody waits for, and the one rule for its failures: they are never silent."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from services.errors import SwarmError
from services.runtime import logs

Failed = Callable[[Exception], object]


class Background:
    """Tasks that run until they are done or ``close`` cancels them. ``part``: of the node, for the log.

    An error that ends a task is logged, with a traceback unless it is a SwarmError, and passed to the task's
    ``failed``: the owner knows whether it costs a peer, an attempt or the node.
    """

    def __init__(self, part: str) -> None:
        self._log = logs.get(part)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._is_broken = asyncio.Event()
        self._error: Exception | None = None

    def run(
        self, work: Coroutine[Any, Any, None], what: str, failed: Failed | None = None, *, vital: bool = False
    ) -> asyncio.Task[None]:
        """Starts ``work``; ``what`` names it in the log. ``vital``: if it fails, ``broken`` raises its error."""
        task = asyncio.create_task(work, name=what)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(done, self._break if vital else failed))
        return task

    def keep(self, begin: Callable[[], Coroutine[Any, Any, None]], what: str, again_after_s: float = 1.0) -> None:
        """Starts work that the node needs and that can be repeated: it begins again if it fails."""

        async def again() -> None:
            while True:
                try:
                    await begin()
                    return
                except Exception as error:
                    self._tell(what, error)
                await asyncio.sleep(again_after_s)

        self.run(again(), what)

    async def broken(self) -> None:
        """Never returns; raises the error that ended vital work."""
        await self._is_broken.wait()
        raise self._error or RuntimeError("broken")

    async def settle(self, within_s: float) -> None:
        """Returns when all work is done or the time is over."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)

    async def close(self) -> None:
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None], failed: Failed | None) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if not isinstance(error, Exception):
            return
        self._tell(task.get_name(), error)
        if failed is not None and not self._closed:
            failed(error)

    def _tell(self, what: str, error: Exception) -> None:
        if isinstance(error, SwarmError):
            self._log.warning(f"{what} failed", reason=str(error))
        else:
            self._log.error(f"{what} failed", exc_info=error)

    def _break(self, error: Exception) -> None:
        self._error = self._error or error
        self._is_broken.set()
