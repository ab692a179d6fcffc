"""Blocks that geth does not get from other geths: another SN sends them, page by page."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from services.chain.geth_peers import GethPeers
from services.rpc.client import SNClient
from services.runtime import logs

IMPORT_FILE = Path("eth", "fetched.rlp")

_log = logs.get("sn")


async def _always(_taken: int) -> bool:
    return True


async def fetch_blocks(
    client: SNClient,
    geth: GethPeers,
    since: int,
    into: Path,
    *,
    of: str,
    taken: Callable[[], object] = lambda: None,
    more: Callable[[int], Awaitable[bool]] = _always,
) -> None:
    """Has geth import the blocks after number ``since`` that the SN ``of`` has, through a file at ``into``.

    Neither memory nor the time of one import grows with the chain: geth executes a page while the next one is on its
    way. ``taken`` is called after each page; ``more``, called with its size in bytes, says whether to go on. Raises
    what a call raises, ChainError, StorageError.
    """
    fetched = 0
    pages = client.blocks(since)
    coming = asyncio.create_task(_next(pages))
    try:
        while page := await coming:
            coming = asyncio.create_task(_next(pages))
            await geth.import_blocks(into, [page])
            fetched += len(page)
            _log.debug("blocks coming", of=of, bytes=fetched)
            taken()
            if not await more(len(page)):
                break
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await pages.aclose()
    _log.info("blocks fetched", of=of, bytes=fetched)


async def _next(pages: AsyncGenerator[bytes]) -> bytes:
    """The next page; empty after the last one."""
    return await anext(pages, b"")
