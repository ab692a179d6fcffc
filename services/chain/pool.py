"""Transactions on their way into a block, of this SN and of the others.

They travel from SN to SN, not from geth to geth, and reach geth only when it is about to seal. Left to itself geth
seals anew with every transaction it hears of, and one that comes while a block is being written makes it seal two
blocks of one height, of which it keeps either.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from eth_hash.auto import keccak

from services.chain.relayed import (
    BLOCK_LIMIT,
    BLOCK_LIMIT_BYTES,
    BLOCK_LIMIT_GAS,
    WAITING_LIMIT,
    WAITING_LIMIT_BYTES,
)

OTHERS_KEPT_S = 120.0  # twice as long as a writer waits


@dataclass(frozen=True)
class PendingTransaction:
    """``hash`` is 0x-prefixed hex, ``raw`` the signed transaction. ``by``: the SN that relays it, '' for one's own;
    ``gas``: the most that it may use, where somebody else may have chosen it.
    """

    hash: str
    raw: bytes
    by: str = ""
    gas: int = 0

    @classmethod
    def of(cls, raw: bytes, by: str = "", gas: int = 0) -> Self:
        return cls("0x" + keccak(raw).hex(), raw, by, gas)


class Pool:
    """In the order of arrival. Used from the event loop only."""

    def __init__(self) -> None:
        self._all: dict[str, PendingTransaction] = {}
        self._came_at: dict[str, float] = {}
        self._own: set[str] = set()
        self._in_blocks: set[str] = set()
        self._waiting: Counter[str] = Counter()  # by the SN that relays them
        self._waiting_bytes: Counter[str] = Counter()
        self._readers: list[asyncio.Queue[PendingTransaction]] = []

    def add(self, transaction: PendingTransaction, *, own: bool) -> bool:
        """``own``: the other SNs have to hear of it. False where it is here already, or its SN has too many here."""
        known = transaction.hash in self._all
        if not known:
            if not own and self._full(transaction):
                return False
            self._all[transaction.hash] = transaction
            self._waiting[transaction.by] += 1
            self._waiting_bytes[transaction.by] += len(transaction.raw)
        self._came_at.setdefault(transaction.hash, time.monotonic())
        if own:
            self._own.add(transaction.hash)
            for reader in self._readers:
                reader.put_nowait(transaction)
        return not known

    def remove(self, hashes: Iterable[str]) -> None:
        """They are in final blocks, or never will be."""
        for transaction in hashes:
            gone = self._all.pop(transaction, None)
            if gone is not None:
                self._waiting[gone.by] -= 1
                self._waiting_bytes[gone.by] -= len(gone.raw)
            self._came_at.pop(transaction, None)
            self._own.discard(transaction)
            self._in_blocks.discard(transaction)

    def included(self, hashes: Iterable[str]) -> None:
        """A block has them, which may yet be given up."""
        self._in_blocks.update(hashes)

    def given_up(self, hashes: Iterable[str]) -> None:
        """The block that had them is not on the chain any more."""
        self._in_blocks.difference_update(hashes)

    @property
    def waiting(self) -> list[PendingTransaction]:
        """Those that no block has. One of another SN is dropped once that SN has given it up."""
        oldest = time.monotonic() - OTHERS_KEPT_S
        self.remove([name for name, came in self._came_at.items() if came < oldest and name not in self._own])
        return [transaction for name, transaction in self._all.items() if name not in self._in_blocks]

    @property
    def next_block(self) -> list[PendingTransaction]:
        """Of those, what goes into one block: each SN's in the order in which they came, up to its share."""
        count: Counter[str] = Counter()
        size: Counter[str] = Counter()
        gas: Counter[str] = Counter()
        taken, over = [], set()
        for transaction in self.waiting:
            by = transaction.by if transaction.hash not in self._own else ""
            count[by] += 1
            size[by] += len(transaction.raw)
            gas[by] += transaction.gas
            if by and (count[by] > BLOCK_LIMIT or size[by] > BLOCK_LIMIT_BYTES or gas[by] > BLOCK_LIMIT_GAS):
                over.add(by)  # nothing later of it either, which would wait for what comes before
            if by not in over:
                taken.append(transaction)
        return taken

    def _full(self, transaction: PendingTransaction) -> bool:
        """Whether the SN that relays it has as much here as it may."""
        by, total = transaction.by, self._waiting_bytes[transaction.by] + len(transaction.raw)
        return bool(by) and (self._waiting[by] >= WAITING_LIMIT or total > WAITING_LIMIT_BYTES)

    def open_reader(self) -> "asyncio.Queue[PendingTransaction]":
        """Gets this SN's transactions: those that are not final yet, then each new one. Close it."""
        queue: asyncio.Queue[PendingTransaction] = asyncio.Queue()
        for name, transaction in self._all.items():
            if name in self._own:
                queue.put_nowait(transaction)
        self._readers.append(queue)
        return queue

    def close_reader(self, queue: "asyncio.Queue[PendingTransaction]") -> None:
        self._readers.remove(queue)
