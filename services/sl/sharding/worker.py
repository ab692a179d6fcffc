"""One node's part of a shared merge: fetches its segments from all, merges them, and fetches the rest of the result."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.errors import SwarmError
from services.merge.processors import usable_processors
from services.merge.work import Frame, Plan
from services.runtime.background import Background
from services.sl.sharding.attempts import Attempt, draft_name
from services.sl.sharding.inputs import Input, InputCallbacks, MergeContext
from services.sl.sharding.messages import (
    AssignedRuns,
    BeginAttempt,
    Deal,
    Declined,
    Examine,
    Examined,
    Measure,
    Moves,
    Serves,
    Settled,
    ShardMessage,
    Unreadable,
    Unusable,
    words,
)
from services.sl.sharding.share import Damaged
from services.sl.transfer.partials import PartialEnded
from services.sl.view import CheckInEntry, View

SIGN_EVERY_S = 0.25

Got = TypeVar("Got")


class ShardWorker:
    """``view``: what is merged. ``say`` takes messages to the leader. To be closed."""

    def __init__(self, place: MergeContext, view: View, say: Callable[[ShardMessage], object]) -> None:
        self.view = view
        self.attempt: Attempt | None = None
        self._place = place
        self._tell = say
        self._inputs: dict[str, Input] = {}
        self._to_examine: set[tuple[str, int]] = set()
        self._moved = 0
        self._moved_at = time.monotonic()
        self.threads = usable_processors()
        self._pool = ThreadPoolExecutor(self.threads, "shard")
        self.error: SwarmError | None = None  # why it cannot continue
        self._background = Background("round")
        self._background.run(self._give_signs(), "giving signs of life of a share", self.failed)

    async def take(self, message: ShardMessage) -> None:
        """Carries out an order of the leader. Raises Unreadable for one that makes no sense; DiskFull, StorageError."""
        if isinstance(message, BeginAttempt):
            await self._begin(message)
            return
        attempt = self.attempt
        if attempt is None:
            raise Unreadable(f"{type(message).__name__} before it has begun")
        match message:
            case Deal(runs):
                attempt.deal(runs)
            case Measure(number, centre, scale):
                attempt.share.measure(number, Frame(centre, float.fromhex(scale)))
            case Settled(shares):
                attempt.share.settled(Plan(None if shares is None else tuple(map(float.fromhex, shares))))
            case AssignedRuns(by, runs):
                attempt.shared(by, runs)
            case Serves(by, start, hashes):
                attempt.offered(by, start, [bytes.fromhex(entry) for entry in hashes])
            case Examine(name, segment):
                self._examine(attempt, name, segment)
            case _:
                raise Unreadable(f"{type(message).__name__} is no order")

    def say_to(self, say: Callable[[ShardMessage], object]) -> None:
        """Sends messages to the leader over another connection from now on."""
        self._tell = say

    def say(self, message: ShardMessage) -> None:
        self._tell(message)

    async def close(self) -> None:
        """Returns once no thread works for this merge."""
        await self._background.close()
        if self.attempt is not None:
            await self.attempt.close()
        for given in self._inputs.values():
            await given.close()
        self._pool.shutdown(wait=False)

    # --- for its attempts -----------------------------------------------------------------------------------

    def input(self, entry: CheckInEntry) -> Input:
        if entry.name not in self._inputs:
            told = InputCallbacks(self.moved, self._on_segment, self.unusable, self.failed)
            self._inputs[entry.name] = Input(self._place, self.view, entry, told)
        return self._inputs[entry.name]

    def moved(self, count: int) -> None:
        """Counts bytes; may be called from any thread."""
        self._moved += count
        self._moved_at = time.monotonic()

    def failed(self, error: Exception) -> None:
        """This node cannot continue with the merge; tells the leader, which may be this node itself."""
        self.error = error if isinstance(error, SwarmError) else SwarmError(detail=repr(error))
        self.say(Declined(words(str(self.error))))

    @property
    def idle_s(self) -> float:
        """Seconds since the last progress."""
        return time.monotonic() - self._moved_at

    @property
    def stall_s(self) -> float:
        """Seconds without progress after which the merge is given up."""
        return self._place.peers.stall_s

    async def spread(self, work: Callable[[Sequence[int]], Got], indices: Sequence[int]) -> list[Got]:
        """Runs ``work`` on parts of ``indices`` in threads; results in their order. If cancelled, returns once the
        threads have ended.
        """
        loop = asyncio.get_running_loop()
        size = -(-len(indices) // self.threads)
        parts = [indices[start : start + size] for start in range(0, len(indices), size)]
        done = asyncio.gather(*(loop.run_in_executor(self._pool, work, part) for part in parts), return_exceptions=True)
        try:
            found = await asyncio.shield(done)
        except asyncio.CancelledError:
            await done
            raise
        for entry in found:
            if isinstance(entry, BaseException):
                raise entry
        return [entry for entry in found if not isinstance(entry, BaseException)]

    def _on_segment(self, _index: int) -> None:
        if self.attempt is not None:
            self.attempt.wake()
            self._look(self.attempt)

    def unusable(self, name: str, reason: str, segment: int) -> None:
        self.say(Unusable(name, words(reason), segment))

    def _examine(self, attempt: Attempt, name: str, segment: int) -> None:
        entry = self.view.checked_in(name)
        if entry is None or segment >= attempt.draft.count:
            raise Unreadable(f"segment {segment} of {name} cannot be looked at")
        self._to_examine.add((name, segment))
        self.input(entry).want(attempt.share.needs(segment))
        self._look(attempt)

    def _look(self, attempt: Attempt) -> None:
        """Examines segments for the leader, as far as they are here."""
        for name, segment in list(self._to_examine):
            entry = self.view.checked_in(name)
            if entry is None or not self.input(entry).has(attempt.share.needs(segment)):
                continue
            self._to_examine.discard((name, segment))
            try:
                tensor = attempt.share.non_finite(entry, segment)
            except (Damaged, OSError, PartialEnded) as error:
                self.unusable(name, f"its parameters cannot be read ({error})", segment)
            else:
                self.say(Examined(name, segment, tensor))

    async def _begin(self, order: BeginAttempt) -> None:
        entries = [entry for entry in self.view.check_ins if entry.name in order.names]
        if len(entries) < len(order.names):
            raise Unreadable("it begins with somebody who has not checked in")
        if self.attempt is not None:
            if self.attempt.order.attempt > order.attempt:
                raise Unreadable(f"attempt {order.attempt} after {self.attempt.order.attempt}")
            if self.attempt.order == order and not self.attempt.closed:
                self.attempt.again()
                return
            await self.attempt.close()
            self._place.store.give_up(draft_name(self.attempt.order))
        self.attempt = Attempt(self._place, self, order, entries)

    async def _give_signs(self) -> None:
        while True:
            await asyncio.sleep(SIGN_EVERY_S)
            count, self._moved = self._moved, 0
            waits = any(given.waits for given in self._inputs.values())
            if self.attempt is not None:
                self.attempt.say_what_it_holds()
            if count or waits:
                self.say(Moves(count, waits))
