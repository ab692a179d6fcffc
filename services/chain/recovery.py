"""Founds a chain anew where those who sealed it are lost: the same transactions in the same blocks, sealed by another.

A block needs the signature of one who may seal, so a chain whose signers are gone cannot go on. But every transaction
on it has the signature of the SN that sent it, and can be executed once more: on a first block with another signer, in
the same order, block by block. Contracts stand at the same addresses, and every event has the same block, place and
content as before; each block is held against the one that it stands for, by the roots of its transactions and receipts.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chain.abi import checksummed, contract_abi
from services.chain.account import Account
from services.chain.genesis import EXTRA_SEAL, EXTRA_VANITY
from services.chain.lone_geth import LoneGeth
from services.chain.paths import ACCOUNT_KEY, GETH_DIR, GETH_GENESIS
from services.errors import ChainError, NotARegisteredSN, StorageError

DRAFT = Path("recovery")  # in the data directory, until the new chain is whole
BEFORE = Path("eth.before-recovery")

# Of a block, and of its header, as RLP has them.
_HEADER, _TRANSACTIONS = 0, 1
_TRANSACTIONS_ROOT, _RECEIPTS_ROOT = 4, 5


@dataclass(frozen=True)
class Recovered:
    """``blocks``: of the chain before and after. ``kept``: where the one before it lies now."""

    blocks: int
    account: str
    kept: Path


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
        async with LoneGeth.running(data_dir, account) as old:
            await _require_fit(old, account, network)
            async with LoneGeth.running(draft, account, _founded_by(account, before)) as new:
                blocks = await _replay(old, new, told)
        (data_dir / GETH_DIR).rename(data_dir / BEFORE)
        (draft / GETH_DIR).rename(data_dir / GETH_DIR)
    except OSError as error:
        raise StorageError(path=data_dir, problem=error.strerror or str(error)) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Recovered(blocks, account.address, data_dir / BEFORE)


async def _require_fit(old: LoneGeth, account: Account, network: str) -> None:
    """Raises NotARegisteredSN, ChainError where this SN needs nobody else for sealing."""
    is_registered = contract_abi("SwarmNetwork").functions["isSN"]
    message = {"to": network, "input": "0x" + is_registered.encode(account.address).hex()}
    answer = bytes.fromhex((await old.request("eth_call", message, "latest"))[2:])
    if not answer or not is_registered.decode(answer):
        raise NotARegisteredSN(account=account.address)
    signers = [checksummed(signer) for signer in await old.request("clique_getSigners")]
    if signers == [account.address]:
        raise ChainError(problem="this SN seals its chain alone, and needs no recovery: start it", log="`swarm sn`")


async def _replay(old: LoneGeth, new: LoneGeth, told: Callable[[int], None]) -> int:
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
