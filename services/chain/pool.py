"""Transactions on their way into a block, of this SN and of the others.

They travel from SN to SN, not from geth to geth, and reach geth only when it is about to seal. Left to itself geth
seals anew with every transaction it hears of, and one that comes while a block is being written makes it seal two
blocks of one height, of which it keeps either.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from eth_hash.auto import keccak

OTHERS_KEPT_S = 120.0  # twice as long as a writer waits


@dataclass(frozen=True)
class Transaction:
    """``hash`` is 0x-prefixed hex, ``raw`` the signed transaction."""

    hash: str
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> Self:
        return cls("0x" + keccak(raw).hex(), raw)


class Pool:
    """In the order of arrival. Used from the event loop only."""

    def __init__(self) -> None:
        self._all: dict[str, Transaction] = {}
        self._came_at: dict[str, float] = {}
        self._own: set[str] = set()
        self._in_blocks: set[str] = set()
        self._readers: list[asyncio.Queue[Transaction]] = []

    def add(self, transaction: Transaction, *, own: bool) -> bool:
        """``own``: the other SNs have to hear of it. False where it is here already."""
        known = transaction.hash in self._all
        self._all[transaction.hash] = transaction
        self._came_at.setdefault(transaction.hash, time.monotonic())
        if own:
            self._own.add(transaction.hash)
            for reader in self._readers:
                reader.put_nowait(transaction)
        return not known

    def remove(self, hashes: Iterable[str]) -> None:
        """They are in final blocks, or never will be."""
        for transaction in hashes:
            self._all.pop(transaction, None)
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
    def waiting(self) -> list[Transaction]:
        """Those that no block has. One of another SN is dropped once that SN has given it up."""
        oldest = time.monotonic() - OTHERS_KEPT_S
        self.remove([name for name, came in self._came_at.items() if came < oldest and name not in self._own])
        return [transaction for name, transaction in self._all.items() if name not in self._in_blocks]

    def open_reader(self) -> "asyncio.Queue[Transaction]":
        """Gets this SN's transactions: those that are not final yet, then each new one. Close it."""
        queue: asyncio.Queue[Transaction] = asyncio.Queue()
        for name, transaction in self._all.items():
            if name in self._own:
                queue.put_nowait(transaction)
        self._readers.append(queue)
        return queue

    def close_reader(self, queue: "asyncio.Queue[Transaction]") -> None:
        self._readers.remove(queue)
