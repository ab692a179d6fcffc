"""A file that shows that this node works: written when the node is ready, then touched by its event loop.

A check needs no connection and no certificate: if the file is missing or older than a few seconds, the node does not
work. Node images set its path in SWARM_HEALTH_FILE, and their health check looks at its age.
"""

import asyncio
import contextlib
import os
from pathlib import Path

from services.errors import StorageError

VARIABLE = "SWARM_HEALTH_FILE"
TOUCH_EVERY_S = 2.0


class Health:
    """Does nothing if no file is named."""

    def __init__(self) -> None:
        named = os.environ.get(VARIABLE)
        self._file = Path(named) if named else None
        self._touching: asyncio.Task[None] | None = None

    def ready(self) -> None:
        """The node works from now on. Raises StorageError."""
        if self._file is None or self._touching is not None:
            return
        self._touch(self._file)
        self._touching = asyncio.create_task(self._keep(self._file), name="health")

    async def end(self) -> None:
        """The node no longer works: the file is no longer touched."""
        if self._touching is not None:
            self._touching.cancel()
            with contextlib.suppress(asyncio.CancelledError, StorageError):
                await self._touching

    async def _keep(self, file: Path) -> None:
        loop = asyncio.get_running_loop()
        while True:
            turned = asyncio.Event()
            loop.call_later(TOUCH_EVERY_S, turned.set)
            await turned.wait()
            self._touch(file)

    def _touch(self, file: Path) -> None:
        try:
            file.touch()
        except OSError as error:
            raise StorageError(path=file, problem=error.strerror or str(error)) from None
