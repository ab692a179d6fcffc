"""Limits on transactions that another SN sends here: checked before they wait here and before geth gets them."""

import rlp
from rlp.codec import consume_length_prefix

from services.chain.account import DATA_LIMIT_BYTES, DYNAMIC_FEE_TRANSACTION, GAS_LIMIT, PRIORITY_FEE_WEI

# The data and the rest of the transaction.
RAW_LIMIT_BYTES = DATA_LIMIT_BYTES + 1024

# Per SN, waiting at once: several rounds of the largest swarm that was measured. What exceeds this is not kept here;
# the sending SN puts it into a block itself, or sends it again with its next stream.
WAITING_LIMIT = 4096
WAITING_LIMIT_BYTES = 32 * 1024 * 1024

# Per SN, in one block: the rest goes into later blocks, so no other SN's transactions wait behind all of them.
BLOCK_LIMIT = 512
BLOCK_LIMIT_BYTES = 4 * 1024 * 1024
BLOCK_LIMIT_GAS = BLOCK_LIMIT * GAS_LIMIT

_PRIORITY_FEE, _GAS = 2, 4  # their indices in a transaction
_FIELDS = 12


def gas_of(raw: bytes) -> int:
    """The most gas that this transaction may use. Raises ValueError if it is not one that an SN makes."""
    if not raw.startswith(DYNAMIC_FEE_TRANSACTION) or len(raw) > RAW_LIMIT_BYTES:
        raise ValueError("it is not of the kind or of the size that SNs make")
    try:
        fee, gas = (int.from_bytes(_field(raw, wanted), "big") for wanted in (_PRIORITY_FEE, _GAS))
    except (rlp.exceptions.RLPException, IndexError):
        raise ValueError("it is none") from None
    if fee != PRIORITY_FEE_WEI:
        raise ValueError(f"it gives {fee} wei per gas to whoever seals it, which no SN does")
    if gas > GAS_LIMIT:
        raise ValueError(f"it may use {gas} gas, and {GAS_LIMIT} is the limit")
    return gas


def _field(raw: bytes, wanted: int) -> bytes:
    """One field, without decoding the others, which may be very many. Raises ValueError, RLPException, IndexError."""
    _, kind, length, at = consume_length_prefix(raw, len(DYNAMIC_FEE_TRANSACTION))
    if kind is not list or at + length != len(raw):
        raise ValueError("it is no list of fields")
    found, number = b"", 0
    while at < len(raw) and number < _FIELDS:
        _, kind, length, start = consume_length_prefix(raw, at)
        at = start + length
        if number == wanted:
            if kind is not bytes:
                raise ValueError("its gas or its fee is no number")
            found = raw[start:at]
        number += 1
    if at != len(raw) or number != _FIELDS:
        raise ValueError("it has other fields")
    return found
