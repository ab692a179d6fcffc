"""Founds a chain anew where those who sealed it are lost: the same transactions in the same blocks, sealed by another.

A block needs the signature of one who may seal, so a chain whose signers are gone cannot go on. But every transaction
on it has the signature of the SN that sent it, and can be executed once more: on a first block with another signer, in
the same order, block by block. Contracts stand at the same addresses, and every event has the same block, place and
content as before; each block is held against the one that it stands for, by the roots of its transactions and receipts.
"""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlp

from services.chain.abi import checksummed, contract_abi
from services.chain.account import Account
from services.chain.clique import BlockHeader
from services.chain.genesis import EXTRA_SEAL, EXTRA_VANITY
from services.chain.geth_process import GethProcess
from services.chain.ipc import IpcConnection
from services.chain.paths import ACCOUNT_KEY, GETH_DIR, GETH_GENESIS
from services.chain.rpc import RpcError
from services.errors import ChainError, NotARegisteredSN, StorageError

DRAFT = Path("recovery")  # in the data directory, until the new chain is whole
BEFORE = Path("eth.before-recovery")
BLOCK_WITHIN_S = 60.0
READ_AT_ONCE = 32

# Of a block, and of its header, as RLP has them.
_HEADER, _TRANSACTIONS = 0, 1
_TRANSACTIONS_ROOT, _RECEIPTS_ROOT = 4, 5


@dataclass(frozen=True)
class Recovered:
    """``blocks``: of the chain before and after. ``kept``: where the one before it lies now."""

    blocks: int
    account: str
    kept: Path


class _Geth:
    """A geth that nobody but this process speaks to. It seals while it is told to."""

    def __init__(self, connection: IpcConnection, heads: asyncio.Queue[Mapping[str, Any]]) -> None:
        self.request = connection.request
        self._heads = heads

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, data_dir: Path, account: Account, genesis: Mapping[str, Any] | None = None
    ) -> AsyncIterator["_Geth"]:
        """Raises GethNotFound, GethFailed, StorageError."""
        process = GethProcess(data_dir, account, genesis=genesis)
        heads: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        try:
            await process.start()
            connection = await IpcConnection.open(process.ipc_path, heads.put_nowait)
            try:
                await connection.request("eth_subscribe", "newHeads")
                geth = cls(connection, heads)
                await geth._stop_sealing()
                yield geth
            finally:
                await connection.close()
        finally:
            await process.stop()

    async def blocks(self) -> AsyncIterator[list[Any]]:
        """All but the first, oldest first, as RLP has them."""
        newest = int(await self.request("eth_blockNumber"), 16)
        for start in range(1, newest + 1, READ_AT_ONCE):
            numbers = range(start, min(start + READ_AT_ONCE, newest + 1))
            for raw in await asyncio.gather(*(self.request("debug_getRawBlock", hex(number)) for number in numbers)):
                yield rlp.decode(bytes.fromhex(raw[2:]))

    async def seal(self, transactions: list[bytes]) -> list[Any]:
        """One block of exactly these. Raises ChainError where geth does not make it."""
        for transaction in transactions:  # one after the other: that is their order in the block
            try:
                await self.request("eth_sendRawTransaction", "0x" + transaction.hex())
            except RpcError as error:
                raise ChainError(problem=f"geth refused a transaction of it: {error}", log="geth.log") from None
        async with asyncio.timeout(BLOCK_WITHIN_S):
            executable = -1
            while executable < len(transactions):
                executable = int((await self.request("txpool_status"))["pending"], 16)
            await self.request("miner_start")
            head = BlockHeader.of(await self._heads.get())
        await self._stop_sealing()
        return list(rlp.decode(bytes.fromhex((await self.request("debug_getRawBlock", hex(head.number)))[2:])))

    async def _stop_sealing(self) -> None:
        mining = True
        while mining:  # a start takes effect a moment after its answer
            await self.request("miner_stop")
            mining = await self.request("eth_mining")


async def recover(data_dir: Path, network: str, told: Callable[[int], None]) -> Recovered:
    """Puts a chain that this SN's account seals in the place of the one in ``data_dir``, which is kept beside it.

    ``network``: address of the SwarmNetwork. ``told`` hears of each block that is made anew. Nothing has changed where
    it fails. Raises ChainError, NotARegisteredSN, StorageError, GethNotFound, GethFailed.
    """
    if not (data_dir / GETH_GENESIS).is_file():
        raise ChainError(problem=f"{data_dir} holds no chain of geth", log="--data-dir")
    account = Account.load_or_create(data_dir / ACCOUNT_KEY)
    before, draft = json.loads((data_dir / GETH_GENESIS).read_text()), data_dir / DRAFT
    if (data_dir / BEFORE).exists():
        raise StorageError(path=data_dir / BEFORE, problem="an earlier recovery left it; move it elsewhere")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        async with _Geth.running(data_dir, account) as old:
            await _require_fit(old, account, network)
            async with _Geth.running(draft, account, _founded_by(account, before)) as new:
                blocks = await _replay(old, new, told)
        (data_dir / GETH_DIR).rename(data_dir / BEFORE)
        (draft / GETH_DIR).rename(data_dir / GETH_DIR)
    except TimeoutError:
        raise ChainError(problem=f"geth made no block in {BLOCK_WITHIN_S:.0f} s", log="geth.log") from None
    except OSError as error:
        raise StorageError(path=data_dir, problem=error.strerror or str(error)) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Recovered(blocks, account.address, data_dir / BEFORE)


async def _require_fit(old: _Geth, account: Account, network: str) -> None:
    """Raises NotARegisteredSN, ChainError where this SN needs nobody else for sealing."""
    is_registered = contract_abi("SwarmNetwork").functions["isSN"]
    message = {"to": network, "input": "0x" + is_registered.encode(account.address).hex()}
    answer = bytes.fromhex((await old.request("eth_call", message, "latest"))[2:])
    if not answer or not is_registered.decode(answer):
        raise NotARegisteredSN(account=account.address)
    signers = [checksummed(signer) for signer in await old.request("clique_getSigners")]
    if signers == [account.address]:
        raise ChainError(problem="this SN seals its chain alone, and needs no recovery: start it", log="`swarm sn`")


async def _replay(old: _Geth, new: _Geth, told: Callable[[int], None]) -> int:
    """Raises ChainError where a block does not come out as it was."""
    number = 0
    async for block in old.blocks():
        number += 1
        made = await new.seal(block[_TRANSACTIONS])
        for root in (_TRANSACTIONS_ROOT, _RECEIPTS_ROOT):
            if made[_HEADER][root] != block[_HEADER][root]:
                raise ChainError(problem=f"block {number} does not come out as it was", log="geth.log")
        told(number)
    return number


def _founded_by(account: Account, genesis: Mapping[str, Any]) -> dict[str, Any]:
    """The first block with another signer, and all else as it was: what was signed for that chain counts here."""
    signer = bytes.fromhex(account.address[2:])
    return {**genesis, "extraData": "0x" + (EXTRA_VANITY + signer + EXTRA_SEAL).hex()}
