"""The first block of a swarm's geth chain, and the account file that lets geth seal the others."""

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.chain.account import BALANCE_WEI, Account

BLOCK_GAS_LIMIT = 2**40  # never the bottleneck: a block can take whatever arrived
EXTRA_VANITY = bytes(32)
EXTRA_SEAL = bytes(65)

SCRYPT_COST = 4096  # the password is 32 random bytes, so a costlier hash would only delay the start


def make_genesis(signers: Sequence[str]) -> dict[str, Any]:
    """Clique with period 0: blocks are made only for transactions.

    ``signers``: addresses that seal, each with more than it can spend. The chain id is random, so that no transaction
    of one swarm is valid in another.
    """
    addresses = sorted(bytes.fromhex(signer[2:]) for signer in signers)
    forks = [
        "homesteadBlock", "eip150Block", "eip155Block", "eip158Block", "byzantiumBlock", "constantinopleBlock",
        "petersburgBlock", "istanbulBlock", "berlinBlock", "londonBlock",
    ]  # fmt: skip
    return {
        "config": {
            "chainId": secrets.randbelow(2**31 - 2) + 1,
            **dict.fromkeys(forks, 0),
            "clique": {"period": 0, "epoch": 30000},
        },
        "difficulty": "0x1",
        "gasLimit": hex(BLOCK_GAS_LIMIT),
        "baseFeePerGas": "0x1",
        "extraData": "0x" + (EXTRA_VANITY + b"".join(addresses) + EXTRA_SEAL).hex(),
        "alloc": {address.hex(): {"balance": hex(BALANCE_WEI)} for address in addresses},
    }


def chain_id_of(genesis: Path) -> int:
    """The chain id in a genesis file."""
    return int(json.loads(genesis.read_text())["config"]["chainId"])


def keystore_file(account: Account, password: str) -> str:
    """The account as Web3 Secret Storage, version 3, the key format that geth unlocks. Takes half a second."""
    from eth_keyfile.keyfile import create_keyfile_json  # noqa: PLC0415 - 0.3 s, and only the first start needs it

    content = create_keyfile_json(account.key, password.encode(), kdf="scrypt", iterations=SCRYPT_COST)
    return json.dumps(content)
