"""The chain on geth: one process under supervision, one IPC connection, receipts by subscription."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.chain.abi import checksummed
from services.chain.account import GAS_LIMIT, Account
from services.chain.backend import ChainBackend, Log, Position, Receipt
from services.chain.geth_process import GethProcess
from services.chain.ipc import ConnectionLost, IpcConnection, RpcError
from services.chain.paths import ACCOUNT_KEY
from services.chain.reverts import error_of
from services.chain.subscriptions import Hub, Subscription
from services.chain.writer import Writer
from services.errors import ChainError, SwarmError
from services.runtime import logs as log_setup

UP_TIMEOUT_S = 30.0
GETH_END_TIMEOUT_S = 5.0


class GethChain(ChainBackend):
    """A receipt is final: one SN seals, and nothing it sealed is replaced.

    When geth dies it is started again; meanwhile reads and writes wait, subscriptions stay, and what happened in
    blocks that were not seen yet is delivered before anything new.
    """

    kind = "geth"

    def __init__(self, data_dir: Path, *, p2p_port: int = 0, genesis: Mapping[str, Any] | None = None) -> None:
        account = Account.load_or_create(data_dir / ACCOUNT_KEY)
        self.account = account.address
        self._process = GethProcess(data_dir, account, p2p_port=p2p_port, genesis=genesis)
        self._writer = Writer(account)
        self._hub: Hub[Log] = Hub()
        self._heads: asyncio.Queue[int] = asyncio.Queue()
        self._last_block: int | None = None
        self._connection: IpcConnection | None = None
        self._up = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._explanations: set[asyncio.Task[None]] = set()
        self._log = log_setup.get("chain")

    # --- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        await self._process.start()
        self.chain_id = self._process.chain_id
        await self._connect()
        self._tasks = [
            asyncio.create_task(self._process.supervise(self._connect)),
            asyncio.create_task(self._follow_heads()),
            asyncio.create_task(self._watch_connection()),
        ]
        self._log.info("chain open", chain_id=self.chain_id, block=self._last_block, account=self.account)

    async def close(self) -> None:
        await self._process.stop()
        for task in [*self._tasks, *self._explanations]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._explanations, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()
        self._writer.close(self._closed())
        self._closing = True
        self._up.set()  # for those who wait: to be told
        self._hub.close()

    async def enode(self) -> str:
        """Where other SNs' geth find this one."""
        info = await self._request("admin_nodeInfo")
        return str(info["enode"])

    # --- writing ------------------------------------------------------------------------------------

    async def transact(self, to: str, data: bytes) -> Receipt:
        return await self._writer.transact(to, data)

    async def deploy(self, code: bytes) -> Receipt:
        return await self._writer.transact(None, code)

    # --- reading ------------------------------------------------------------------------------------

    async def block_number(self) -> int:
        return int(await self._request("eth_blockNumber"), 16)

    async def call(self, to: str, data: bytes, block: int | None = None) -> bytes:
        message = {"from": self.account, "to": to, "input": "0x" + data.hex(), "gas": hex(GAS_LIMIT * 50)}
        try:
            answer = await self._request("eth_call", message, "latest" if block is None else hex(block))
        except RpcError as error:
            if isinstance(error.data, str):
                raise error_of(bytes.fromhex(error.data[2:])) from None
            raise ChainError(problem=f"geth refused a call: {error}", log=self._process.log_path) from None
        return bytes.fromhex(answer[2:])

    async def logs(self, address: str, from_block: int = 0) -> list[Log]:
        if from_block > await self.block_number():
            return []
        query = {"address": address, "fromBlock": hex(from_block), "toBlock": "latest"}
        return [_log(row) for row in await self._request("eth_getLogs", query)]

    def subscribe(self, address: str) -> Subscription[Log]:
        return self._hub.subscribe(address)

    async def _request(self, method: str, *parameters: Any) -> Any:
        """Reads only: a request that geth took with it to its end is asked again."""
        try:
            async with asyncio.timeout(UP_TIMEOUT_S):
                while True:
                    await self._up.wait()
                    if self._closing:
                        raise self._closed()
                    connection = self._connection
                    assert connection is not None  # noqa: S101 - up means connected
                    with contextlib.suppress(ConnectionLost):
                        return await connection.request(method, *parameters)
                    if connection is self._connection:
                        self._up.clear()
        except TimeoutError:
            raise ChainError(problem=f"geth was away for {UP_TIMEOUT_S:.0f} s", log=self._process.log_path) from None

    def _closed(self) -> ChainError:
        return ChainError(problem="it was closed", log=self._process.log_path)

    # --- the connection -----------------------------------------------------------------------------

    async def _connect(self) -> None:
        """Connects to a geth that is up, sees the blocks that were missed, and lets writing go on."""
        if self._connection is not None:
            await self._connection.close()
        connection = await IpcConnection.open(
            self._process.ipc_path, lambda head: self._heads.put_nowait(int(head["number"], 16))
        )
        self._connection = connection
        await connection.request("eth_subscribe", "newHeads")
        head = int(await connection.request("eth_blockNumber"), 16)
        if self._last_block is None:
            self._last_block = head
        elif head < self._last_block:
            self._log.error("geth lost blocks", had=self._last_block, has=head)
            self._last_block = head
        await self._see_blocks(connection, head)
        await self._writer.resume(connection, self.chain_id, head)
        self._up.set()

    async def _watch_connection(self) -> None:
        """Stops writing when the connection is lost; opens it again where geth is not to blame."""
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
                with contextlib.suppress(OSError, ConnectionLost):
                    await self._connect()
            else:
                await self._up.wait()  # supervise() brings it back

    # --- blocks -------------------------------------------------------------------------------------

    async def _follow_heads(self) -> None:
        while True:
            head = await self._heads.get()
            connection = self._connection
            assert connection is not None  # noqa: S101 - heads come over it
            with contextlib.suppress(ConnectionLost):  # _connect() sees this block again
                await self._see_blocks(connection, head)

    async def _see_blocks(self, connection: IpcConnection, head: int) -> None:
        assert self._last_block is not None  # noqa: S101 - set before the first head
        while self._last_block < head:
            number = self._last_block + 1
            receipts = await connection.request("eth_getBlockReceipts", hex(number))
            if number != self._last_block + 1:  # another task saw it meanwhile
                continue
            self._last_block = number
            for receipt in receipts or ():
                self._see(connection, receipt)

    def _see(self, connection: IpcConnection, raw: Mapping[str, Any]) -> None:
        logs = tuple(_log(row) for row in raw["logs"])
        for log in logs:
            self._hub.publish(log)
        transaction = raw["transactionHash"]
        if not self._writer.awaits(transaction):
            return
        if int(raw["status"], 16) == 1:
            created = raw["contractAddress"]
            contract = checksummed(created) if created else None
            block, gas = int(raw["blockNumber"], 16), int(raw["gasUsed"], 16)
            self._writer.settle(transaction, Receipt(transaction, block, gas, contract, logs))
            return
        task = asyncio.create_task(self._explain(connection, transaction))
        self._explanations.add(task)
        task.add_done_callback(self._explanations.discard)

    async def _explain(self, connection: IpcConnection, transaction: str) -> None:
        """Runs a reverted transaction again where it stood, for the reason that its receipt does not hold."""
        try:
            trace = await connection.request("debug_traceTransaction", transaction, {"tracer": "callTracer"})
        except (ConnectionLost, RpcError, ChainError) as error:
            self._writer.settle(
                transaction, ChainError(problem=f"a transaction was reverted; {error!r}", log="geth.log")
            )
            return
        self._writer.settle(transaction, _refusal(trace))


def _refusal(trace: Mapping[str, Any]) -> SwarmError:
    output = bytes.fromhex(str(trace.get("output", "0x"))[2:])
    error = trace.get("error", "")
    if output or error == "execution reverted":
        return error_of(output)
    return ChainError(problem=f"a transaction failed with '{error}'", log="geth.log")


def _log(row: Mapping[str, Any]) -> Log:
    return Log(
        checksummed(row["address"]),
        tuple(bytes.fromhex(topic[2:]) for topic in row["topics"]),
        bytes.fromhex(row["data"][2:]),
        Position(int(row["blockNumber"], 16), int(row["logIndex"], 16)),
        row["transactionHash"],
    )
