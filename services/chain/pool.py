"""Transactions of this SN and the others that wait for a block.

They travel from SN to SN, not from geth to geth, and reach geth only when it is about to seal. By itself, geth seals
again with every transaction that it hears of. If one arrives while a block is being written, geth seals two blocks of
one height, and may keep either.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
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

# A transaction that is in no block after this time is sent again: another SN may have dropped it while its geth was
# down, or for lack of space. Later transactions of the same account wait for it everywhere.
TELL_AGAIN_S = 30.0


@dataclass(frozen=True)
class PendingTransaction:
    """``hash`` is 0x-prefixed hex, ``raw`` the signed transaction. ``by``: the SN that relays it, '' for our own.
    ``gas``: the most that it may use, if somebody else may have chosen this.
    """

    hash: str
    raw: bytes
    by: str = ""
    gas: int = 0

    @classmethod
    def of(cls, raw: bytes, by: str = "", gas: int = 0) -> Self:
        return cls("0x" + keccak(raw).hex(), raw, by, gas)


class Pool:
    """Transactions in the order of arrival. Use it only from the event loop. ``clock``: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all: dict[str, PendingTransaction] = {}
        self._came_at: dict[str, float] = {}  # when they last arrived
        self._own: dict[str, float] = {}  # when the other SNs were last told, latest at the end
        self._in_blocks: set[str] = set()
        self._waiting: Counter[str] = Counter()  # by the SN that relays them
        self._waiting_bytes: Counter[str] = Counter()
        self._readers: list[asyncio.Queue[PendingTransaction]] = []

    def add(self, transaction: PendingTransaction, *, own: bool) -> bool:
        """``own``: send it to the other SNs. Returns False if it is here already, or if its SN has too many here."""
        known = transaction.hash in self._all
        if not known:
            if not own and self._full(transaction):
                return False
            self._all[transaction.hash] = transaction
            self._waiting[transaction.by] += 1
            self._waiting_bytes[transaction.by] += len(transaction.raw)
        self._came_at[transaction.hash] = self._clock()
        if own:
            self._tell(transaction)
        return not known

    def tell_again(self) -> float | None:
        """Sends to the other SNs again what is in no block yet; returns the time of the next check."""
        while self._own:
            name, told_at = next(iter(self._own.items()))
            if told_at + TELL_AGAIN_S > self._clock():
                return told_at + TELL_AGAIN_S
            if name in self._in_blocks:
                self._own.pop(name)
                self._own[name] = self._clock()
            else:
                self._tell(self._all[name])
        return None

    def _tell(self, transaction: PendingTransaction) -> None:
        self._own.pop(transaction.hash, None)
        self._own[transaction.hash] = self._clock()
        for reader in self._readers:
            reader.put_nowait(transaction)

    def remove(self, hashes: Iterable[str]) -> None:
        """Removes transactions that are in final blocks, or never will be."""
        for transaction in hashes:
            gone = self._all.pop(transaction, None)
            if gone is not None:
                self._waiting[gone.by] -= 1
                self._waiting_bytes[gone.by] -= len(gone.raw)
            self._came_at.pop(transaction, None)
            self._own.pop(transaction, None)
            self._in_blocks.discard(transaction)

    def included(self, hashes: Iterable[str]) -> None:
        """They are in a block, which may still be dropped."""
        self._in_blocks.update(hashes)

    def given_up(self, hashes: Iterable[str]) -> None:
        """Their block is no longer on the chain."""
        self._in_blocks.difference_update(hashes)

    @property
    def waiting(self) -> list[PendingTransaction]:
        """Those that are in no block. One of another SN is dropped once that SN has given it up."""
        oldest = self._clock() - OTHERS_KEPT_S
        self.remove([name for name, came in self._came_at.items() if came < oldest and name not in self._own])
        return [transaction for name, transaction in self._all.items() if name not in self._in_blocks]

    @property
    def next_block(self) -> list[PendingTransaction]:
        """Of those, what goes into one block: of each SN, in order of arrival, up to its share."""
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
                over.add(by)  # none of its later ones either: they would wait for this one
            if by not in over:
                taken.append(transaction)
        return taken

    def _full(self, transaction: PendingTransaction) -> bool:
        """Whether the SN that relays it has reached its limit here."""
        by, total = transaction.by, self._waiting_bytes[transaction.by] + len(transaction.raw)
        return bool(by) and (self._waiting[by] >= WAITING_LIMIT or total > WAITING_LIMIT_BYTES)

    def open_reader(self) -> "asyncio.Queue[PendingTransaction]":
        """A queue of this SN's transactions: those that are not final yet, then each new one. Close it."""
        queue: asyncio.Queue[PendingTransaction] = asyncio.Queue()
        for name, transaction in self._all.items():
            if name in self._own:
                queue.put_nowait(transaction)
        self._readers.append(queue)
        return queue

    def close_reader(self, queue: "asyncio.Queue[PendingTransaction]") -> None:
        self._readers.remove(queue)
