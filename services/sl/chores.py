"""What a node does beside its round: forces files to the disk, deletes them, ends tasks."""

import asyncio
import contextlib
from pathlib import Path

from services.sl.store import Stored


async def sync(stored: Stored) -> None:
    with contextlib.suppress(FileNotFoundError):  # overtaken by a newer one
        await asyncio.to_thread(stored.sync)


async def delete(trash: list[Path]) -> None:
    """A large file takes a while to delete."""
    for path in trash:
        await asyncio.to_thread(path.unlink, missing_ok=True)


async def cancel_all(tasks: set[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
