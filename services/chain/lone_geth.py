"""A geth that only this process talks to. It seals a block when told to, of the given transactions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import rlp

from services.chain.account import Account
from services.chain.clique import BlockHeader
from services.chain.geth_process import GethProcess
from services.chain.ipc import IpcConnection
from services.chain.rpc import RpcError
from services.errors import ChainError

BLOCK_WITHIN_S = 60.0
READ_AT_ONCE = 32

Request = Callable[..., Awaitable[Any]]


class Notifications:
    """geth's notifications: new heads, and the hashes of transactions that are executable."""

    def __init__(self) -> None:
        self.heads: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self.executable: asyncio.Queue[str] = asyncio.Queue()

    def take(self, told: Any) -> None:
        if isinstance(told, str):
            self.executable.put_nowait(told)
        else:
            self.heads.put_nowait(told)


class LoneGeth:
    """``request`` asks geth; ``news``: the notifications of its subscriptions."""

    def __init__(self, request: Request, news: Notifications) -> None:
        self.request = request
        self._news = news

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, data_dir: Path, account: Account, genesis: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Self]:
        """Raises GethNotFound, GethFailed, StorageError."""
        process = GethProcess(data_dir, account, genesis=genesis)
        news = Notifications()
        try:
            await process.start()
            connection = await IpcConnection.open(process.ipc_path, news.take)
            try:
                await connection.request("eth_subscribe", "newHeads")
                await connection.request("eth_subscribe", "newPendingTransactions")
                geth = cls(connection.request, news)
                await geth._stop_sealing()
                yield geth
            finally:
                await connection.close()
        finally:
            await process.stop()

    async def blocks(self) -> AsyncIterator[list[Any]]:
        """All blocks except the first, oldest first, in the structure of RLP."""
        newest = int(await self.request("eth_blockNumber"), 16)
        for start in range(1, newest + 1, READ_AT_ONCE):
            numbers = range(start, min(start + READ_AT_ONCE, newest + 1))
            for raw in await asyncio.gather(*(self.request("debug_getRawBlock", hex(number)) for number in numbers)):
                yield rlp.decode(bytes.fromhex(raw[2:]))

    async def seal(self, transactions: Sequence[bytes]) -> list[Any]:
        """Seals one block of exactly these. Raises ChainError if geth does not make it."""
        awaited = set()
        for transaction in transactions:  # one after the other, which sets their order in the block
            try:
                awaited.add(await self.request("eth_sendRawTransaction", "0x" + transaction.hex()))
            except RpcError as error:
                raise ChainError(problem=f"geth refused a transaction of it: {error}", log="geth.log") from None
        try:
            async with asyncio.timeout(BLOCK_WITHIN_S):
                while awaited:
                    awaited.discard(await self._news.executable.get())
                await self.request("miner_start")
                head = BlockHeader.of(await self._news.heads.get())
        except TimeoutError:
            raise ChainError(problem=f"geth made no block in {BLOCK_WITHIN_S:.0f} s", log="geth.log") from None
        await self._stop_sealing()
        return list(rlp.decode(bytes.fromhex((await self.request("debug_getRawBlock", hex(head.number)))[2:])))

    async def _stop_sealing(self) -> None:
        mining = True
        while mining:  # a start takes effect a moment after its answer
            await self.request("miner_stop")
            mining = await self.request("eth_mining")
