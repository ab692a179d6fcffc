"""What a node does beside its round: forces files to the disk, deletes them."""

import asyncio
import contextlib
from pathlib import Path

from services.sl.transfer.store import Stored


async def sync(stored: Stored) -> None:
    with contextlib.suppress(FileNotFoundError):  # overtaken by a newer one
        await asyncio.to_thread(stored.sync)


async def delete(trash: list[Path]) -> None:
    """A large file takes a while to delete."""
    for path in trash:
        await asyncio.to_thread(path.unlink, missing_ok=True)
