"""Clique's rules, as in geth 1.13: who signed a block, whose turn it is, who has to wait. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import rlp
from eth_hash.auto import keccak
from eth_keys.datatypes import Signature
from rlp.sedes import big_endian_int

IN_TURN = 2  # difficulty of a block that was sealed in turn
OUT_OF_TURN = 1

SEAL_BYTES = 65
NOBODY = "0x" + "00" * 20
TRANSFER_GAS = 21_000

_BYTES = ("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom")
_NUMBERS = ("difficulty", "number", "gasLimit", "gasUsed", "timestamp")


@dataclass(frozen=True)
class BlockHeader:
    """A block without its transactions; ``raw`` is the header as geth's JSON-RPC returns it."""

    number: int
    hash: str
    parent: str
    difficulty: int
    gas_used: int
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "BlockHeader":
        number, difficulty, gas = (int(raw[name], 16) for name in ("number", "difficulty", "gasUsed"))
        return cls(number, str(raw["hash"]), str(raw["parentHash"]), difficulty, gas, raw)

    @property
    def votes(self) -> bool:
        """Whether it contains its signer's vote on who may seal."""
        return str(self.raw["miner"]) != NOBODY

    @property
    def only_transfers(self) -> bool:
        """Whether it calls no contract, like blocks made only to have a further block."""
        return self.gas_used % TRANSFER_GAS == 0

    @cached_property
    def signer(self) -> str:
        """The account that sealed it, checksummed. The first block has none."""
        extra = _octets(self.raw["extraData"])
        fields: list[bytes] = [_octets(self.raw[name]) for name in _BYTES]
        fields += [_number(self.raw[name]) for name in _NUMBERS]
        fields += [extra[:-SEAL_BYTES], _octets(self.raw["mixHash"]), _octets(self.raw["nonce"])]
        fields.append(_number(self.raw["baseFeePerGas"]))
        digest = keccak(rlp.encode(fields))
        return Signature(extra[-SEAL_BYTES:]).recover_public_key_from_msg_hash(digest).to_checksum_address()


@dataclass(frozen=True)
class ChainBlock:
    """A block on a chain; ``total``: total difficulty of the chain up to and including it."""

    header: BlockHeader
    total: int

    @cached_property
    def number(self) -> int:
        return self.header.number

    @cached_property
    def hash(self) -> str:
        return self.header.hash


def ordered(signers: Sequence[str]) -> list[str]:
    """In the order in which they take turns."""
    return sorted(signers, key=str.lower)


def majority(signers: Sequence[str]) -> int:
    """How many signers are more than half. So many consecutive blocks all have different signers."""
    return len(signers) // 2 + 1


def minority(signers: Sequence[str]) -> int:
    """How many signers may be missing; by themselves they can seal at most this many consecutive blocks."""
    return len(signers) - majority(signers)


def in_turn(signers: Sequence[str], number: int) -> str:
    """Whose turn block ``number`` is; ``signers`` in order."""
    return signers[number % len(signers)]


def difficulty(signers: Sequence[str], number: int, signer: str) -> int:
    return IN_TURN if in_turn(signers, number) == signer else OUT_OF_TURN


def waiting(signers: Sequence[str], recent: Sequence[BlockHeader]) -> frozenset[str]:
    """Who may not seal the block after ``recent``: the signers of the newest blocks."""
    count = majority(signers) - 1
    return frozenset(header.signer for header in recent[-count:] if header.number > 0) if count else frozenset()


def _octets(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _number(text: str) -> bytes:
    """A number as RLP requires it: no leading zero, empty for 0."""
    return bytes(big_endian_int.serialize(int(text, 16)))
