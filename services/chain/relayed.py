"""What another SN may have this one carry: bounded before it waits here, and before geth sees it."""

import rlp

from services.chain.account import DATA_LIMIT_BYTES, DYNAMIC_FEE_TRANSACTION, GAS_LIMIT

# The data, and what stands around it.
RAW_LIMIT_BYTES = DATA_LIMIT_BYTES + 1024

# Of one SN, waiting at once: several rounds of the largest swarm that was measured. What comes beyond is not kept here;
# the SN that it comes from brings it into a block itself, or sends it again with its next stream.
WAITING_LIMIT = 4096
WAITING_LIMIT_BYTES = 32 * 1024 * 1024

# Of one SN, in one block: the rest goes into the next ones, so that nobody's transactions wait behind all of them.
BLOCK_LIMIT = 512
BLOCK_LIMIT_BYTES = 4 * 1024 * 1024
BLOCK_LIMIT_GAS = BLOCK_LIMIT * GAS_LIMIT

_GAS = 4  # which field of a transaction it is
_FIELDS = 12


def gas_of(raw: bytes) -> int:
    """The most that this transaction may use. Raises ValueError for one that no SN makes."""
    if not raw.startswith(DYNAMIC_FEE_TRANSACTION) or len(raw) > RAW_LIMIT_BYTES:
        raise ValueError("it is not of the kind or of the size that SNs make")
    try:
        fields = rlp.decode(raw[len(DYNAMIC_FEE_TRANSACTION) :])
    except (rlp.exceptions.RLPException, RecursionError):
        raise ValueError("it is none") from None
    if not isinstance(fields, list) or len(fields) != _FIELDS or not isinstance(fields[_GAS], bytes):
        raise ValueError("it has other fields")
    gas = int.from_bytes(fields[_GAS], "big")
    if gas > GAS_LIMIT:
        raise ValueError(f"it may use {gas} gas, and {GAS_LIMIT} is the limit")
    return gas
