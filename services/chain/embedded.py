"""The chain inside this process: the same contracts, nothing to install, only one SN."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from services.chain.account import Account, require_fits
from services.chain.backend import ChainBackend
from services.chain.embedded_evm import EmbeddedEvm, Request
from services.chain.paths import ACCOUNT_KEY, EMBEDDED_CHAIN
from services.chain.receipts import Log, Position, Receipt
from services.chain.subscriptions import Hub, Subscription
from services.errors import ChainError, SwarmError
from services.runtime import logs as log_setup
from services.runtime.background import Background

P = ParamSpec("P")
R = TypeVar("R")

PAGE_EVENTS = 512

Waiting = tuple[Request, asyncio.Future[Receipt]]


class EmbeddedChain(ChainBackend):
    """py-evm in its own thread. All that arrives while a block is mined goes into the next one."""

    kind = "embedded"
    federation = None
    chain_id = EmbeddedEvm.chain_id

    def __init__(self, data_dir: Path, *, page_events: int = PAGE_EVENTS) -> None:
        """``page_events``: number of events that are read at once from a history."""
        self._data_dir = data_dir
        self._account = Account.load_or_create(data_dir / ACCOUNT_KEY)
        self.account = self._account.address
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-chain")
        self._page_events = page_events
        self._evm: EmbeddedEvm | None = None
        self._hub: Hub[Log] = Hub()
        self._waiting: list[Waiting] = []
        self._background = Background("chain")
        self._miner: asyncio.Task[None] | None = None
        self._log = log_setup.get("chain")

    async def start(self) -> None:
        path = self._data_dir / EMBEDDED_CHAIN
        self._evm = await self._in_thread(EmbeddedEvm, path, self._account)
        self._log.info("embedded chain open", path=str(path), block=self._evm.block_number, account=self.account)

    async def close(self) -> None:
        evm, self._evm = self._evm, None
        if self._miner is not None:
            await asyncio.gather(self._miner, return_exceptions=True)
        if evm is not None:
            await self._in_thread(evm.close)
        self._thread.shutdown(wait=False)
        self._hub.close()

    async def transact(self, to: str, data: bytes) -> Receipt:
        return await self._enqueue((to, data))

    async def deploy(self, code: bytes) -> Receipt:
        return await self._enqueue((None, code))

    async def block_number(self) -> int:
        return self._open().block_number

    async def block_hash(self, number: int) -> str:
        return await self._in_thread(self._open().block_hash, number)

    async def call(self, to: str, data: bytes, block: int | None = None) -> bytes:
        return await self._in_thread(self._open().call, to, data, block)

    async def logs(
        self, address: str, from_block: int = 0, to_block: int | None = None, *, settled: bool = True
    ) -> AsyncIterator[list[Log]]:
        newest = self._open().block_number if to_block is None else to_block
        after = Position(from_block, -1)
        while page := await self._in_thread(self._open().logs, address, after, newest, self._page_events):
            yield page
            after = page[-1].position

    def subscribe(self, address: str) -> Subscription[Log]:
        return self._hub.subscribe(address)

    def _open(self) -> EmbeddedEvm:
        if self._evm is None:
            raise ChainError(problem="it is not open", log="the node's log")
        return self._evm

    def _enqueue(self, request: Request) -> asyncio.Future[Receipt]:
        evm = self._open()
        require_fits(request[1])
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._miner is None or self._miner.done():
            self._miner = self._background.run(self._mine(evm), "mining")
        return future

    async def _mine(self, evm: EmbeddedEvm) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                outcomes = await self._in_thread(evm.mine, [request for request, _ in batch])
            except Exception as error:
                self._log.error("a block could not be mined", error=str(error))
                failure = (
                    error if isinstance(error, SwarmError) else ChainError(problem=str(error), log="the node's log")
                )
                outcomes = [failure] * len(batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                self._settle(future, outcome)

    def _settle(self, future: asyncio.Future[Receipt], outcome: Receipt | SwarmError) -> None:
        if isinstance(outcome, Receipt):
            for log in outcome.logs:
                self._hub.publish(log)
        if future.done():  # the caller is gone, but the block exists
            return
        if isinstance(outcome, Receipt):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    async def _in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))
