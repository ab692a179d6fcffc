"""What a node does besides its round: syncs files to disk, and deletes them."""

import asyncio
import contextlib
from pathlib import Path

from services.sl.transfer.store import Stored


async def sync(stored: Stored) -> None:
    with contextlib.suppress(FileNotFoundError):  # a newer one has replaced it
        await asyncio.to_thread(stored.sync)


async def delete(trash: list[Path]) -> None:
    """Deletes in threads: a large file takes a while."""
    for path in trash:
        await asyncio.to_thread(path.unlink, missing_ok=True)
