"""The chain on geth: one process under supervision, one IPC connection, receipts by subscription."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.chain.abi import checksummed
from services.chain.account import GAS_LIMIT, Account
from services.chain.backend import ChainBackend
from services.chain.clique import BlockHeader
from services.chain.federation import Federation
from services.chain.final_block import FinalBlock
from services.chain.geth_process import GethProcess
from services.chain.paging import BYTES_BESIDE_DATA, PageSize, Stride
from services.chain.paths import ACCOUNT_KEY, GETH_FINAL
from services.chain.receipts import Log, Position, Receipt
from services.chain.reverts import error_of
from services.chain.rpc import MESSAGE_LIMIT_BYTES, AnswerTooLong, ConnectionLost, RpcError
from services.chain.subscriptions import Hub, Subscription
from services.errors import ChainError, SwarmError
from services.runtime import logs as log_setup
from services.runtime.background import Background

if TYPE_CHECKING:
    from services.chain.ipc import IpcConnection

UP_TIMEOUT_S = 30.0
GETH_END_TIMEOUT_S = 5.0

# This many wait only while a chain is fetched.
MANY_HEADS = 16


class GethChain(ChainBackend):
    """A receipt is final: only blocks that no other chain can replace are processed (services/chain/finality.py).

    With one signer, every block is final. When geth dies it is restarted; meanwhile reads and writes wait,
    subscriptions stay, and events of blocks that were not processed yet are delivered before new ones.
    """

    kind = "geth"

    def __init__(
        self,
        data_dir: Path,
        *,
        genesis: Mapping[str, Any] | None = None,
        has_others: bool = False,
        pages: PageSize | None = None,
    ) -> None:
        """``pages``: page size for reading a history; None for the size that suits geth."""
        account = self._account = Account.load_or_create(data_dir / ACCOUNT_KEY)
        self.account = account.address
        self._process = GethProcess(data_dir, account, genesis=genesis)
        self._pages = pages or PageSize()
        self._hub: Hub[Log] = Hub()
        self._heads: asyncio.Queue[tuple[IpcConnection, BlockHeader] | None] = asyncio.Queue()  # None: decide again
        self._woken = False
        self._thinking = asyncio.Lock()
        self._final = FinalBlock(data_dir / GETH_FINAL)
        self.federation: Federation = Federation(account, self._process, self._request, self._wake)
        self._writer = self.federation.writer
        if has_others:
            self.federation.expect_others()
        self._connection: IpcConnection | None = None
        self._known: IpcConnection | None = None  # the connection over which the newest blocks were loaded
        self._has_lost = False  # geth lacks the newest final block that this node knew
        self._up = asyncio.Event()
        self._closing = False
        self._background = Background("chain")
        self._log = log_setup.get("chain")

    # --- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        await asyncio.gather(self._process.start(), asyncio.to_thread(self._load_libraries))
        self.chain_id = self._process.chain_id
        await self._connect()
        self._background.keep(lambda: self._process.supervise(self._connect), "keeping geth running")
        self._background.keep(self._follow_heads, "following the chain")
        self._background.keep(self._watch_connection, "watching the connection to geth")
        self._wake()
        self._log.info("chain open", chain_id=self.chain_id, block=self._final.number, account=self.account)

    async def close(self) -> None:
        await self._process.stop()
        await self._background.close()
        self.federation.close()
        if self._connection is not None:
            await self._connection.close()
        self._writer.close(self._closed())
        self._closing = True
        self._up.set()  # wakes those who wait, who then get the error
        self._hub.close()
        self._final.save()

    @property
    def trouble(self) -> str:
        return self._process.trouble

    # --- writing ------------------------------------------------------------------------------------

    async def transact(self, to: str, data: bytes) -> Receipt:
        return await self._written(to, data)

    async def deploy(self, code: bytes) -> Receipt:
        return await self._written(None, code)

    async def _written(self, to: str | None, data: bytes) -> Receipt:
        try:
            return await self._writer.transact(to, data)
        except ChainError as error:
            if type(error) is ChainError and (why := self.trouble):
                raise ChainError(problem=why, log=self._process.log_path) from error
            raise

    # --- reading ------------------------------------------------------------------------------------

    async def block_number(self) -> int:
        await self._when_up()
        return self._final.number

    async def block_hash(self, number: int) -> str:
        header = await self._request("eth_getHeaderByNumber", hex(number))
        return str(header["hash"]) if header else ""

    async def call(self, to: str, data: bytes, block: int | None = None) -> bytes:
        message = {"from": self.account, "to": to, "input": "0x" + data.hex(), "gas": hex(GAS_LIMIT * 50)}
        try:
            answer = await self._request("eth_call", message, hex(self._final.number if block is None else block))
        except RpcError as error:
            if isinstance(error.data, str):
                raise error_of(bytes.fromhex(error.data[2:])) from None
            raise ChainError(problem=f"geth refused a call: {error}", log=self._process.log_path) from None
        return bytes.fromhex(answer[2:])

    async def logs(
        self, address: str, from_block: int = 0, to_block: int | None = None, *, settled: bool = True
    ) -> AsyncIterator[list[Log]]:
        await self._when_up()
        newest = self._final.number if settled else await self.federation.geth_peers.newest()
        newest = newest if to_block is None else min(to_block, newest)
        stride = Stride(self._pages)

        def last() -> int:
            return min(newest, from_block + stride.blocks - 1)

        def ask() -> "asyncio.Task[list[dict[str, Any]]] | None":
            if from_block > newest:
                return None
            return asyncio.create_task(self._rows(address, from_block, last()))

        asked = ask()
        try:
            while asked is not None:
                try:
                    rows = await asked
                except AnswerTooLong:
                    stride.too_long(from_block)
                    asked = ask()
                    continue
                from_block = last() + 1
                stride.came(sum(len(row["data"]) + BYTES_BESIDE_DATA for row in rows))
                asked = ask()  # geth works on the next page while this one is decoded
                if rows:
                    yield await asyncio.to_thread(_logs, rows)
        finally:
            if asked is not None:
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)

    async def _rows(self, address: str, from_block: int, until: int) -> list[dict[str, Any]]:
        query = {"address": address, "fromBlock": hex(from_block), "toBlock": hex(until)}
        rows: list[dict[str, Any]] = await self._request("eth_getLogs", query, most_bytes=self._pages.most_bytes)
        return rows

    def subscribe(self, address: str) -> Subscription[Log]:
        return self._hub.subscribe(address)

    async def _request(self, method: str, *parameters: Any, most_bytes: int = MESSAGE_LIMIT_BYTES) -> Any:
        """For reads only: a request that was lost when geth ended is sent again."""
        try:
            async with asyncio.timeout(UP_TIMEOUT_S):
                while True:
                    await self._when_up()
                    connection = self._connection
                    assert connection is not None  # noqa: S101 - up means connected
                    with contextlib.suppress(ConnectionLost):
                        return await connection.request(method, *parameters, most_bytes=most_bytes)
                    if connection is self._connection:
                        self._up.clear()
        except TimeoutError:
            problem = f"geth was away for {UP_TIMEOUT_S:.0f} s" + (f", as {why}" if (why := self.trouble) else "")
            raise ChainError(problem=problem, log=self._process.log_path) from None

    async def _when_up(self) -> None:
        await self._up.wait()
        if self._closing:
            raise self._closed()

    def _closed(self) -> ChainError:
        return ChainError(problem="it was closed", log=self._process.log_path)

    # --- the connection -----------------------------------------------------------------------------

    def _load_libraries(self) -> None:
        """web3 and eth-account take 0.6 s to load, about as long as geth takes to start."""
        import services.chain.ipc  # noqa: F401, PLC0415

        self._account.load_signer()

    async def _connect(self) -> None:
        """Connects to a running geth, processes the blocks that were missed, and resumes writing."""
        from services.chain.ipc import IpcConnection  # noqa: PLC0415 - start() has loaded it

        if self._connection is not None:
            await self._connection.close()
        connection = await IpcConnection.open(self._process.ipc_path, lambda result: self._notified(connection, result))
        self._connection = connection
        await connection.request("eth_subscribe", "newHeads")
        self._up.set()
        async with self._thinking:
            await self.federation.opened(self._final.remembered)
            self._known = connection
            self._has_lost = self._seen_and_there < self._final.number
            self._check_final()
            await self._see_final()
            await self._writer.resume(connection, self.chain_id, self._seen_and_there)

    @property
    def _seen_and_there(self) -> int:
        """Number of the newest final block, or of geth's newest block if geth has lost that one."""
        return min(self._final.number, self.federation.tail.head.number)

    def _notified(self, connection: "IpcConnection", result: Mapping[str, Any]) -> None:
        self._heads.put_nowait((connection, BlockHeader.of(result)))

    def _wake(self) -> None:
        """Requests another decision; several requests before it are one."""
        if not self._woken:
            self._woken = True
            self._heads.put_nowait(None)

    async def _watch_connection(self) -> None:
        """Stops writing when the connection is lost; reopens it if geth still runs."""
        while True:
            connection = self._connection
            assert connection is not None  # noqa: S101 - start() connects first
            await connection.lost.wait()
            if connection is not self._connection:
                continue
            self._writer.pause()
            self._up.clear()
            try:
                async with asyncio.timeout(GETH_END_TIMEOUT_S):
                    await self._process.exited()
            except TimeoutError:
                self._log.warning("the connection to geth broke; opening it again")
                with contextlib.suppress(ConnectionLost):
                    await self._connect()
            else:
                await self._up.wait()  # supervise() brings it back

    # --- blocks -------------------------------------------------------------------------------------

    async def _follow_heads(self) -> None:
        while True:
            news = await self._next_news()
            try:
                async with self._thinking:
                    if self._known is not self._connection or (news is not None and news[0] is not self._connection):
                        continue  # from a geth that is gone; _connect() asks the new one
                    if news is not None:
                        given_up = await self.federation.moved(news[1])
                        self._check_final(given_up[0].number if given_up else None)
                    await self._see_final()
            except (ConnectionLost, RpcError, ChainError) as error:  # _connect(), or the next head, catches up
                self._log.debug("a block was not processed yet", problem=repr(error))

    async def _next_news(self) -> tuple["IpcConnection", BlockHeader] | None:
        """What to process next; of many heads at once, as while a chain is fetched, only the newest."""
        news = await self._heads.get()
        while news is not None and (self.federation.passes_over_heads or self._heads.qsize() >= MANY_HEADS):
            later = await self._heads.get()
            if later is None:
                self._woken = False  # a decision follows after a head too
            else:
                news = later
        if news is None:
            self._woken = False
        return news

    async def _see_final(self) -> None:
        """Processes the blocks that have become final, in order; then seals or not."""
        newest = self.federation.final(self._final.number)
        # Blocks that were lost and have come back, and blocks that are skipped, may contain transactions that an
        # earlier run of this account sent, whose nonces must not be used again.
        foreign = self._has_lost and self._seen_and_there == self._final.number
        self._has_lost &= not foreign
        if newest > self._final.number + 1 and not self._hub.busy and not self._writer.busy:
            self._final.move(newest - 1, "", remember=False)  # nobody needs their events one by one
            foreign = True
        while self._final.number < newest:
            number = self._final.number + 1
            block_hash, receipts = await self.federation.receipts(number)
            self._final.move(number, block_hash, remember=not self.federation.seals_alone)
            for receipt in receipts:
                foreign |= self._see(receipt)
        self.federation.settled(self._seen_and_there)
        await self.federation.act(newest)
        if newest < self._final.number and self.federation.seals_alone:
            self._log.error("geth lost blocks", had=self._final.number, has=newest)
            self._final.move(newest, self.federation.tail.head.hash, remember=False)
        if foreign and self._connection is not None:  # an earlier run's transactions have used nonces
            await self._writer.resume(self._connection, self.chain_id, self._seen_and_there)

    def _check_final(self, from_number: int | None = None) -> None:
        """Ends the chain if a final block was replaced after all: what this node has reported is no longer true."""
        final, tail = self._final, self.federation.tail
        there = tail.at(final.number)
        if from_number is None and (not final.hash or there is None or there.hash == final.hash):
            return
        if from_number is not None and from_number > final.number:
            return
        problem = f"block {final.number}, which was final, was replaced by another one; start this node again"
        self._log.error("chain replaced", block=final.number)
        self._writer.close(ChainError(problem=problem, log=self._process.log_path))
        self._hub.close()

    def _see(self, raw: Mapping[str, Any]) -> bool:
        """Processes a receipt; True for a transaction of this account that the writer does not know."""
        logs = tuple(_log(row) for row in raw["logs"])
        for log in logs:
            self._hub.publish(log)
        transaction = raw["transactionHash"]
        if not self._writer.awaits(transaction):
            return checksummed(raw["from"]) == self.account
        if int(raw["status"], 16) == 1:
            created = raw["contractAddress"]
            contract = checksummed(created) if created else None
            block, gas = int(raw["blockNumber"], 16), int(raw["gasUsed"], 16)
            self._writer.settle(transaction, Receipt(transaction, block, gas, contract, logs))
            return False
        self._background.run(
            self._explain(transaction), "explaining a refusal", lambda error: self._unexplained(transaction, error)
        )
        return False

    async def _explain(self, transaction: str) -> None:
        """Replays a reverted transaction at its place, to get the reason, which is not in its receipt."""
        try:
            trace = await self._request("debug_traceTransaction", transaction, {"tracer": "callTracer"})
        except (RpcError, ChainError) as error:
            self._unexplained(transaction, error)
            return
        self._writer.settle(transaction, _refusal(trace))

    def _unexplained(self, transaction: str, error: Exception) -> None:
        """The caller gets an error even if the reason is unknown."""
        self._writer.settle(transaction, ChainError(problem=f"a transaction was reverted; {error!r}", log="geth.log"))


def _refusal(trace: Mapping[str, Any]) -> SwarmError:
    output = bytes.fromhex(str(trace.get("output", "0x"))[2:])
    error = trace.get("error", "")
    if output or error == "execution reverted":
        return error_of(output)
    return ChainError(problem=f"a transaction failed with '{error}'", log="geth.log")


def _logs(rows: Sequence[Mapping[str, Any]]) -> list[Log]:
    return [_log(row) for row in rows]


def _log(row: Mapping[str, Any]) -> Log:
    return Log(
        checksummed(row["address"]),
        tuple(bytes.fromhex(topic[2:]) for topic in row["topics"]),
        bytes.fromhex(row["data"][2:]),
        Position(int(row["blockNumber"], 16), int(row["logIndex"], 16)),
        row["transactionHash"],
    )
