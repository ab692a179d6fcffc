"""The account of an SN: its key on disk, and the transactions that it signs."""

import os
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey
from eth_utils.exceptions import ValidationError

from services.errors import ChainError, StorageError

if TYPE_CHECKING:
    from eth_account.typed_transactions.dynamic_fee_transaction import DynamicFeeTransaction

# Fees have no purpose here: all accounts belong to SNs, and each has more than it can ever spend. The signer gets none.
# The reason: geth also prepares a block while it does not seal, with the fees assigned to nobody. If it is told to seal
# before that is done, it seals this block, and every other geth refuses it, since there the signer would get the fees.
PRIORITY_FEE_WEI = 0
MAX_FEE_WEI = 10**12
BALANCE_WEI = 2**200
GAS_LIMIT = 20_000_000

DATA_LIMIT_BYTES = 120 * 1024  # geth's pool accepts transactions of up to 128 KiB

DYNAMIC_FEE_TRANSACTION = b"\x02"


@dataclass(frozen=True)
class SignedTransaction:
    """A transaction as it is sent to the chain. ``hash`` is 0x-prefixed hex."""

    nonce: int
    to: str | None
    data: bytes
    raw: bytes
    hash: str
    gas: int
    value: int


class Account:
    """A secp256k1 key and what it signs; the key never leaves the process."""

    def __init__(self, key: bytes) -> None:
        self._key = PrivateKey(key)
        self.address: str = self._key.public_key.to_checksum_address()

    @classmethod
    def load_or_create(cls, path: Path) -> "Account":
        """The account whose key is in ``path`` (hex, mode 0600); makes a new one if the file is missing.

        Raises StorageError if the file cannot be read or written, ChainError if it does not contain a key.
        """
        try:
            if not path.exists():
                write_private(path, secrets.token_hex(32))
            text = path.read_text()
        except OSError as error:
            raise StorageError(path=path, problem=error.strerror) from None
        try:
            return cls(bytes.fromhex(text.strip()))
        except (ValueError, ValidationError):
            raise ChainError(problem=f"{path} does not hold an account key", log="the node's log") from None

    @property
    def key(self) -> bytes:
        """32 bytes; for geth's keystore only."""
        return self._key.to_bytes()

    def sign(  # noqa: PLR0917 - in the order of a transaction
        self, nonce: int, chain_id: int, to: str | None, data: bytes, gas: int = GAS_LIMIT, value: int = 0
    ) -> SignedTransaction:
        """A type 2 transaction to ``to`` (None creates a contract). The same arguments give the same transaction."""
        transaction = self._transactions({
            "chainId": chain_id, "nonce": nonce, "gas": gas, "value": value, "data": data, "accessList": (),
            "to": bytes.fromhex(to[2:]) if to else b"",
            "maxPriorityFeePerGas": PRIORITY_FEE_WEI, "maxFeePerGas": MAX_FEE_WEI,
        })  # fmt: skip
        v, r, s = self._key.sign_msg_hash(transaction.hash()).vrs
        transaction.dictionary |= {"v": v, "r": r, "s": s}
        raw = DYNAMIC_FEE_TRANSACTION + transaction.payload()
        return SignedTransaction(nonce, to, data, raw, "0x" + keccak(raw).hex(), gas, value)

    def load_signer(self) -> None:
        """Loads eth-account, which takes 0.3 s; at the start this happens while geth makes its chain."""
        _ = self._transactions

    @cached_property
    def _transactions(self) -> type["DynamicFeeTransaction"]:
        """Not eth-account's ``sign_transaction``, which checks each field's type and so takes three times as long."""
        from eth_account.typed_transactions import dynamic_fee_transaction  # noqa: PLC0415

        return dynamic_fee_transaction.DynamicFeeTransaction


def require_fits(data: bytes) -> None:
    """Raises ChainError if a transaction's data is longer than every chain accepts."""
    if len(data) > DATA_LIMIT_BYTES:
        problem = f"a transaction with {len(data)} bytes of data is too long, {DATA_LIMIT_BYTES} is the limit"
        raise ChainError(problem=problem, log="the node's log")


def write_private(path: Path, text: str) -> None:
    """Writes a secret completely or not at all; from the first byte on, only its owner can read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
