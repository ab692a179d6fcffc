"""The newest blocks of the chain that geth follows, updated when geth switches to another branch."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from services.chain.clique import BlockHeader, ChainBlock
from services.errors import ChainError

WINDOW = 128  # far more than missing signers could replace
TRIES = 5

Request = Callable[..., Awaitable[Any]]


class RecentBlocks:
    """Up to WINDOW consecutive blocks; the last one is geth's head. ``request`` asks geth."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.links: list[ChainBlock] = []

    @property
    def head(self) -> ChainBlock:
        return self.links[-1]

    def at(self, number: int) -> ChainBlock | None:
        """The block of this number; None if it is too old or does not exist."""
        index = number - self.links[0].number if self.links else -1
        return self.links[index] if 0 <= index < len(self.links) else None

    def since(self, number: int) -> list[ChainBlock]:
        """The blocks from this number on."""
        return self.links[max(0, number - self.links[0].number) :]

    def holds(self, number: int, block_hash: str) -> bool:
        """Whether this very block is one of these."""
        found = self.at(number)
        return found is not None and found.hash == block_hash

    async def load(self, count: int = WINDOW) -> None:
        """Asks geth for the newest ``count`` blocks."""
        for _ in range(TRIES):  # geth may switch branches between two answers
            head = int(await self._request("eth_blockNumber"), 16)
            numbers = range(max(0, head - count + 1), head + 1)
            rows = await asyncio.gather(*(self._request("eth_getHeaderByNumber", hex(number)) for number in numbers))
            links = [_link(row) for row in rows if row]
            if len(links) == len(numbers) and _in_a_row(links):
                self.links = links
                return
        raise ChainError(problem="its newest blocks did not come to rest", log="geth.log")

    async def take(self, header: BlockHeader) -> tuple[list[ChainBlock], list[ChainBlock]]:
        """Processes a new head; returns the new blocks, and those that were dropped, oldest first."""
        if self.holds(header.number, header.hash):  # a late announcement: already loaded
            return [], []
        if header.number > self.head.number + WINDOW:
            return await self._start_over()
        branch = [header]
        while not self.holds(branch[-1].number - 1, branch[-1].parent):
            if len(branch) > WINDOW or branch[-1].number <= self.links[0].number:
                return await self._start_over()
            raw = await self._request("eth_getHeaderByHash", branch[-1].parent)
            if raw is None:
                return await self._start_over()
            branch.append(BlockHeader.of(raw))
        branch.reverse()
        keep = branch[0].number - self.links[0].number
        given_up = self.links[keep:]
        del self.links[keep:]
        for came in branch:
            self.links.append(ChainBlock(came, self.head.total + came.difficulty))
        fresh = self.links[-len(branch) :]
        del self.links[: max(0, len(self.links) - WINDOW)]
        return fresh, given_up

    async def _start_over(self) -> tuple[list[ChainBlock], list[ChainBlock]]:
        """Loads all again, after too many new blocks at once."""
        before = self.links
        await self.load()
        return self.links[:], [
            link for link in before if self.at(link.number) and not self.holds(link.number, link.hash)
        ]


def _link(raw: Any) -> ChainBlock:
    return ChainBlock(BlockHeader.of(raw), int(raw["totalDifficulty"], 16))


def _in_a_row(links: list[ChainBlock]) -> bool:
    return all(child.header.parent == parent.hash for parent, child in itertools.pairwise(links))
