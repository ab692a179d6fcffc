"""Founds a chain anew if its signers are lost: the same transactions in the same blocks, sealed by another signer.

A block needs the signature of a signer, so a chain whose signers are gone cannot go on. But every transaction on it is
signed by the SN that sent it, so it can be executed again: on a first block with another signer, in the same order,
block by block. Contracts keep their addresses, and every event keeps its block, place and content. Each new block is
compared with the original by the roots of its transactions and receipts.
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

DRAFT = Path("recovery")  # in the data directory, until the new chain is complete
BEFORE = Path("eth.before-recovery")

# Indices of the fields of a block and of its header in RLP.
_HEADER, _TRANSACTIONS = 0, 1
_TRANSACTIONS_ROOT, _RECEIPTS_ROOT = 4, 5


@dataclass(frozen=True)
class Recovered:
    """``blocks``: number of blocks of the old and the new chain. ``kept``: where the old chain is now."""

    blocks: int
    account: str
    kept: Path


async def recover(data_dir: Path, network: str, told: Callable[[int], None]) -> Recovered:
    """Replaces the chain in ``data_dir`` by one that this SN's account seals; the old one is kept next to it.

    ``network``: address of the SwarmNetwork. ``told`` gets the number of each new block. If the new chain cannot be
    made, nothing has changed. Raises ChainError, NotARegisteredSN, StorageError, GethNotFound, GethFailed.
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
        try:
            (draft / GETH_DIR).rename(data_dir / GETH_DIR)
        except OSError:
            (data_dir / BEFORE).rename(data_dir / GETH_DIR)
            raise
    except OSError as error:
        raise StorageError(path=data_dir, problem=error.strerror or str(error)) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Recovered(blocks, account.address, data_dir / BEFORE)


async def _require_fit(old: LoneGeth, account: Account, network: str) -> None:
    """Raises NotARegisteredSN, and ChainError if this SN is the only signer anyway."""
    is_registered = contract_abi("SwarmNetwork").functions["isSN"]
    message = {"to": network, "input": "0x" + is_registered.encode(account.address).hex()}
    answer = bytes.fromhex((await old.request("eth_call", message, "latest"))[2:])
    if not answer or not is_registered.decode(answer):
        raise NotARegisteredSN(account=account.address)
    signers = [checksummed(signer) for signer in await old.request("clique_getSigners")]
    if signers == [account.address]:
        raise ChainError(problem="this SN seals its chain alone, and needs no recovery: start it", log="`swarm sn`")


async def _replay(old: LoneGeth, new: LoneGeth, told: Callable[[int], None]) -> int:
    """Raises ChainError if a new block differs from the original."""
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
    """The first block with another signer and otherwise unchanged, so transactions signed for that chain are valid."""
    signer = bytes.fromhex(account.address[2:])
    return {**genesis, "extraData": "0x" + (EXTRA_VANITY + signer + EXTRA_SEAL).hex()}
