"""The first block of a swarm's geth chain, and the account file that lets geth seal the others."""

import hashlib
import json
import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from eth_hash.auto import keccak

from services.chain.account import BALANCE_WEI, Account

BLOCK_GAS_LIMIT = 2**40  # never the bottleneck; a block holds whatever arrived
EXTRA_VANITY = bytes(32)
EXTRA_SEAL = bytes(65)

SCRYPT_COST = 4096  # the password is 32 random bytes: a costlier hash would only delay the start


def make_genesis(signers: Sequence[str]) -> dict[str, Any]:
    """Clique with period 0: a block where there is a transaction, and none otherwise.

    ``signers``: addresses that seal, each with more than it can spend. The chain id is drawn at random, so that no
    transaction of one swarm is valid in another.
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
    """The account as Web3 Secret Storage, version 3, the form in which geth unlocks keys."""
    salt, vector = secrets.token_bytes(32), secrets.token_bytes(16)
    derived = hashlib.scrypt(password.encode(), salt=salt, n=SCRYPT_COST, r=8, p=1, dklen=32)
    cipher = Cipher(algorithms.AES128(derived[:16]), modes.CTR(vector)).encryptor()
    text = cipher.update(account.key) + cipher.finalize()
    return json.dumps(
        {
            "version": 3,
            "id": str(uuid.uuid4()),
            "address": account.address[2:].lower(),
            "crypto": {
                "cipher": "aes-128-ctr",
                "ciphertext": text.hex(),
                "cipherparams": {"iv": vector.hex()},
                "kdf": "scrypt",
                "kdfparams": {"n": SCRYPT_COST, "r": 8, "p": 1, "dklen": 32, "salt": salt.hex()},
                "mac": keccak(derived[16:32] + text).hex(),
            },
        }
    )
