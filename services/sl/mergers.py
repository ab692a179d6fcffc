"""One node's part of a shared merge: gets its segments from all, merges them, gets the rest of the result."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.errors import SwarmError
from services.merge.work import Frame, Plan
from services.runtime import logs
from services.sl.attempts import Attempt
from services.sl.inputs import Input, Place
from services.sl.orders import (
    Begin,
    Deal,
    Measure,
    Message,
    Moves,
    Offered,
    Settled,
    Shared,
    Unusable,
)
from services.sl.view import CheckedIn, View

# Merged at once by one thread, before the leader hears of it.
BATCH_SEGMENTS = 16

SIGN_EVERY_S = 0.25
OFFER_AGAIN_S = 0.5

Got = TypeVar("Got")
_log = logs.get("round")


class Merger:
    """``view``: the merge. ``say`` takes what the leader is to hear. To be closed."""

    def __init__(self, place: Place, view: View, say: Callable[[Message], object]) -> None:
        self.view = view
        self.attempt: Attempt | None = None
        self._place = place
        self._tell = say
        self._inputs: dict[str, Input] = {}
        self._moved = 0
        self._moved_at = time.monotonic()
        self.threads = len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self.threads, "shard")
        self.error: SwarmError | None = None  # that it cannot go on for
        self._signs = asyncio.create_task(self._give_signs())

    async def take(self, message: Message) -> None:
        """An order of the leader. Raises DiskFull, StorageError."""
        if isinstance(message, Begin):
            await self._begin(message)
            return
        attempt = self.attempt
        if attempt is None:
            return
        match message:
            case Deal(runs):
                await attempt.deal(runs)
            case Measure(number, centre, scale):
                attempt.measure(number, Frame(centre, float.fromhex(scale)))
            case Settled(shares):
                attempt.settled(Plan(None if shares is None else tuple(map(float.fromhex, shares))))
            case Shared(by, runs):
                attempt.shared(by, runs)
            case Offered(by, start, hashes):
                attempt.offered(by, start, [bytes.fromhex(entry) for entry in hashes])

    def say_to(self, say: Callable[[Message], object]) -> None:
        """The leader is reached by another line."""
        self._tell = say

    def say(self, message: Message) -> None:
        self._tell(message)

    def has_all_of(self, name: str) -> bool:
        """Whether all that was wanted of this participant is here."""
        found = self._inputs.get(name)
        return found is not None and found.satisfied

    async def close(self) -> None:
        self._signs.cancel()
        await asyncio.gather(self._signs, return_exceptions=True)
        if self.attempt is not None:
            await self.attempt.close()
        for given in self._inputs.values():
            await given.close()
        self._pool.shutdown(wait=False)

    # --- for its attempts -----------------------------------------------------------------------------------

    def input(self, entry: CheckedIn) -> Input:
        if entry.name not in self._inputs:
            self._inputs[entry.name] = Input(self._place, self.view, entry, self.moved, self._came, self._unusable)
        return self._inputs[entry.name]

    def moved(self, count: int) -> None:
        """Bytes, from any thread."""
        self._moved += count
        self._moved_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since anything moved."""
        return time.monotonic() - self._moved_at

    @property
    def stall_s(self) -> float:
        """Without anything that moves, after which nothing is hoped for any more."""
        return self._place.peers.stall_s

    async def spread(self, work: Callable[[Sequence[int]], Got], indices: Sequence[int]) -> list[Got]:
        """``work`` on parts of ``indices``, in threads; in their order."""
        loop = asyncio.get_running_loop()
        size = -(-len(indices) // self.threads)
        parts = [indices[start : start + size] for start in range(0, len(indices), size)]
        return list(await asyncio.gather(*(loop.run_in_executor(self._pool, work, part) for part in parts)))

    def _came(self, _index: int) -> None:
        if self.attempt is not None:
            self.attempt.stir()

    def _unusable(self, name: str, reason: str) -> None:
        self.say(Unusable(name, reason))

    async def _begin(self, order: Begin) -> None:
        if self.attempt is not None:
            if self.attempt.order == order:
                self.attempt.again()
                return
            await self.attempt.close()
            self._place.store.forget(self.attempt.draft)
        entries = [entry for entry in self.view.check_ins if entry.name in order.names]
        self.attempt = Attempt(self._place, self, order, entries)

    async def _give_signs(self) -> None:
        while True:
            await self._place.pause(SIGN_EVERY_S)
            count, self._moved = self._moved, 0
            waits = any(given.waits for given in self._inputs.values())
            if self.attempt is not None:
                self.attempt.say_what_it_holds()
            if count or waits:
                self.say(Moves(count, waits))
