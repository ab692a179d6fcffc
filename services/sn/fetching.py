"""Blocks that geth does not get from other geths: another SN sends them, page by page."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic

from services.chain.federation import Federation
from services.chain.geth_peers import GethPeers
from services.errors import SwarmError
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.runtime import logs

IMPORT_FILE = Path("eth", "fetched.rlp")
PAGE_BYTES = 2**20

# For how long an SN is believed that announces blocks but does not send them, and how many bytes without progress are
# taken from one that does.
BELIEVED_FOR_S = 30.0
USELESS_BYTES = 8 * 2**20

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


class BlockFetcher:
    """Fetches blocks whenever the chain lags behind that of another SN.

    ``api_of`` returns name and API address of the SN with an account, the address empty if its API is not open yet;
    None if that SN is not in touch.
    """

    def __init__(
        self, identity: Identity, federation: Federation, api_of: Callable[[str], tuple[str, str] | None], into: Path
    ) -> None:
        self._identity = identity
        self._federation = federation
        self._api_of = api_of
        self._into = into

    async def run(self) -> None:
        """Ends when the chain is closed."""
        failing: dict[str, float] = {}
        async for account in self._federation.lagging.follow():
            found = self._api_of(account)
            claimed = self._federation.attestations.totals.get(account, 0)
            if found is None or not await self._federation.is_behind(account):  # blocks came from elsewhere
                continue
            name, address = found
            if address and await self._fetched(name, address):
                failing.pop(account, None)
            elif monotonic() < failing.setdefault(account, monotonic()) + BELIEVED_FOR_S:
                continue
            await self._federation.doubt(account, claimed)

    async def _fetched(self, name: str, address: str) -> bool:
        """Whether it sent all that it has."""
        federation, useless, had = self._federation, 0, -1

        async def more(taken: int) -> bool:
            """Stops an SN that sends the same blocks again and again."""
            nonlocal useless, had
            has = await federation.head_number()
            useless, had = (useless + taken, had) if has <= had else (0, has)
            return useless <= USELESS_BYTES

        try:
            async with SNClient(address, self._identity, name) as client:
                final = federation.final_number
                await fetch_blocks(client, federation.geth_peers, final, self._into, of=name, more=more)
        except SwarmError as error:
            _log.warning("blocks could not be fetched", of=name, reason=str(error))
            return False
        return True


async def block_pages(federation: Federation, since: int) -> AsyncIterator[pb.BlocksPage]:
    """The blocks after number ``since``, in messages of moderate size."""
    page = bytearray()
    async for block in federation.geth_peers.raw_blocks(since):
        page += block
        if len(page) > PAGE_BYTES:
            yield pb.BlocksPage(blocks=bytes(page))
            page.clear()
    if page:
        yield pb.BlocksPage(blocks=bytes(page))


async def _next(pages: AsyncGenerator[bytes]) -> bytes:
    """The next page; empty after the last one."""
    return await anext(pages, b"")
