"""One attempt at a shared merge, by one node: merges the segments dealt to it, gets the rest of the result."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial as bound
from typing import Protocol, TypeVar

from services.errors import DigestMismatch, NetworkError, SwarmError
from services.merge.work import FIRST_FRAME, Blocks, Frame, Plan
from services.merge.work import NotFinite as Found
from services.runtime import logs
from services.sl.bell import Bell
from services.sl.inputs import Input, Place
from services.sl.layouts import layout_of, work_of
from services.sl.orders import Begin, Holds, Measured, Merged, Message, NonFinite, Refused, ServedWrong, packed
from services.sl.partials import Partial, count_of
from services.sl.pulling import Pull, Source
from services.sl.shards import runs_of
from services.sl.store import Stored
from services.sl.view import CheckedIn, View
from swarm_callback.digest import SEGMENT_BYTES
from swarm_callback.params import parse_header

# Merged at once by one thread, before the leader hears of it.
BATCH_SEGMENTS = 16

OFFER_AGAIN_S = 0.5

Got = TypeVar("Got")
_log = logs.get("round")


def draft_name(begin: Begin) -> str:
    """Under which a result is served before its digest is known."""
    return f"{begin.round}-{begin.term}-{begin.attempt}"


class Shop(Protocol):
    """What an attempt works with, and tells: see Merger."""

    view: View
    threads: int
    error: SwarmError | None

    def say(self, message: Message) -> None: ...

    def moved(self, count: int) -> None: ...

    def input(self, entry: CheckedIn) -> Input: ...

    async def spread(self, work: Callable[[Sequence[int]], Got], indices: Sequence[int]) -> list[Got]: ...

    @property
    def idle_s(self) -> float: ...

    @property
    def stall_s(self) -> float: ...


class Attempt:
    """The merge of those named in ``order``."""

    def __init__(
        self,
        place: Place,
        merger: Shop,
        order: Begin,
        entries: Sequence[CheckedIn],
    ) -> None:
        self.order = order
        self._place = place
        self._merger = merger
        self._entries = entries
        self._say = merger.say
        mine = merger.view.checked_in(place.name)
        stored = place.store.get(mine.digest) if mine is not None else None
        if mine is None or stored is None:
            raise NetworkError(peer=place.name, address="here", problem="it has not checked in to this merge")
        header = stored.header()
        layout = layout_of(parse_header(header, mine.size))
        self.work = work_of(merger.view.config, layout, entries)
        self.draft: Partial = place.store.draft(draft_name(order), mine.size, header, count_of(mine.size - len(header)))
        place.store.bell.ring()
        self._pull = Pull(self.draft, place.store, place.peers.transfers, self._received, self._took, apart=True)
        self._offers: dict[str, set[int]] = {}
        self._to_measure: list[int] = []
        self._to_merge: list[int] = []
        self._mine: set[int] = set()
        self._frame, self._frame_number = FIRST_FRAME, 0
        self._plan = None if self.work.measures else self.work.plan()
        self._held: list[int] = [index for index in range(self.draft.count) if self.draft.has(index)]
        self._finishing = False
        self._accused: set[str] = set()
        self._stirred = Bell()
        self.result: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._guarded(task)) for task in (self._compute, self._insist)]

    # --- orders ---------------------------------------------------------------------------------------------

    async def deal(self, runs: Sequence[tuple[int, int]]) -> None:
        dealt = [index for start, stop in runs for index in range(max(0, start), min(stop, self.draft.count))]
        fresh = [index for index in dealt if index not in self._mine]
        _log.debug("merges a share", round=self.order.round, term=self.order.term, segments=len(fresh))
        self._mine.update(fresh)
        needed = sorted({index for segment in fresh for index in self._needs(segment)})
        for entry in self._entries:
            self._merger.input(entry).want(needed)
        self._to_merge = sorted({*self._to_merge, *fresh})
        if self._plan is None:
            self._to_measure = sorted({*self._to_measure, *fresh})
        self.stir()

    def again(self) -> None:
        """The line to the leader was broken: nothing is left of what was dealt, what is here is said once more."""
        self._mine.clear()
        self._to_measure, self._to_merge = [], []
        self._held = [index for index in range(self.draft.count) if self.draft.has(index)]
        self._offers.clear()

    def measure(self, number: int, frame: Frame) -> None:
        self._frame, self._frame_number = frame, number
        self._to_measure = sorted(self._mine)
        self.stir()

    def settled(self, plan: Plan) -> None:
        self._plan = plan
        self._to_measure = []
        self.stir()

    def shared(self, by: str, runs: Sequence[tuple[int, int]]) -> None:
        """Somebody is to make these segments of the result, and serves each as soon as it is made."""
        indices = [index for start, stop in runs for index in range(max(0, start), min(stop, self.draft.count))]
        self._get(by, indices)

    def offered(self, by: str, start: int, hashes: Sequence[bytes]) -> None:
        """Somebody serves these segments of the result; their hashes."""
        indices = range(start, min(start + len(hashes), self.draft.count))
        wrong = {index for index, found in zip(indices, hashes, strict=False) if not self.draft.know(index, found)}
        if wrong:  # somebody has served what the leader knows nothing of
            _log.warning("another segment than its merger made", round=self.order.round, segments=len(wrong))
            for known in self._offers.values():
                known.difference_update(wrong)
        self._get(by, indices)
        self._finish_when_complete()
        self.stir()

    @property
    def digest(self) -> str | None:
        """Of the result, as soon as all its segments have been made."""
        manifest = self.draft.manifest()
        return manifest.digest if manifest is not None else None

    async def stirred(self) -> None:
        """Returns when something has changed."""
        await self._stirred.wait()

    async def until_result(self) -> Stored | None:
        """None where it comes no more."""
        while not self.result.done():
            await asyncio.wait([self.result], timeout=min(OFFER_AGAIN_S, self._merger.stall_s))
            if not self.result.done() and (self._pull.hopeless or self._merger.idle_s >= self._merger.stall_s):
                return None
        return self.result.result()

    def stir(self) -> None:
        self._stirred.ring()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pull.close()
        if not self.result.done():
            self.result.cancel()

    def say_what_it_holds(self) -> None:
        held, self._held = self._held, []
        if held:
            self._say(Holds(self.order.attempt, tuple(held)))

    # --- the result of others ---------------------------------------------------------------------------------

    def _get(self, by: str, indices: Iterable[int]) -> None:
        known = self._offers.setdefault(by, set())
        missing = {index for index in indices if not self.draft.has(index)} - known
        if by != self._place.name and missing:
            known.update(missing)
            self._offer(by)

    def _offer(self, by: str) -> None:
        member = self._place.find(by)
        if member is not None:
            source = Source(member, f"/v1/merges/{draft_name(self.order)}", made=False)
            self._pull.offer(source, [index for index in self._offers[by] if not self.draft.has(index)])

    async def _insist(self) -> None:
        """A merger that could not be reached is asked again: it may be the only one that has a segment."""
        while True:
            await self._place.pause(OFFER_AGAIN_S)
            for source, failure in list(self._pull.failures.items()):
                if isinstance(failure, DigestMismatch):
                    self._accuse(source.member.name)
                self._offer(source.member.name)

    def _accuse(self, name: str) -> None:
        if name not in self._accused:
            self._accused.add(name)
            self._say(ServedWrong(self.order.attempt, name))

    def _received(self, count: int) -> None:
        self._place.peers.count(count)
        self._merger.moved(count)

    def _took(self, index: int) -> None:
        self._held.append(index)
        self._finish_when_complete()

    def _finish_when_complete(self) -> None:
        if self.draft.complete and not self._finishing:
            self._finishing = True
            self._tasks.append(asyncio.create_task(self._guarded(self._finish)))

    async def _finish(self) -> None:
        stored = await asyncio.to_thread(self._place.store.complete, self.draft)
        if not self.result.done():
            self.result.set_result(stored)
            _log.debug("holds the result", round=self.order.round, term=self.order.term)
        self.say_what_it_holds()

    # --- its own share ----------------------------------------------------------------------------------------

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except SwarmError as error:
            self._merger.error = error
            self._say(Refused(str(error)))

    async def _compute(self) -> None:
        while True:
            if batch := self._ready(self._to_measure):
                await self._measure(batch)
            elif self._plan is not None and (batch := self._ready(self._to_merge)):
                await self._merge(batch, self._plan)
            else:
                await self._stirred.wait()

    async def _measure(self, batch: Sequence[int]) -> None:
        number = self._frame_number
        work = bound(self._measure_some, frame=self._frame)
        parts = [entry for some in await self._merger.spread(work, batch) for entry in some]
        if number != self._frame_number or self._plan is not None:
            return
        if self._report([found for _, found in parts]):
            self._to_measure = []
            return
        matrices = {index: packed(matrix) for index, (matrix, _) in zip(batch, parts, strict=True)}
        for start, stop in runs_of(batch):
            these = tuple(matrices[index] for index in range(start, stop))
            self._say(Measured(self.order.attempt, number, start, these))
        self._to_measure = [index for index in self._to_measure if index not in matrices]

    def _measure_some(self, indices: Sequence[int], frame: Frame) -> list[tuple[bytes, Found]]:
        found = []
        for index in indices:
            matrix, bad = self.work.measure(index, self._blocks(index), frame)
            self._let_go(index)
            found.append((matrix.tobytes(), bad))
            self._merger.moved(len(self._entries) * self.draft.size_of(index))
        return found

    async def _merge(self, batch: Sequence[int], plan: Plan) -> None:
        made = [
            entry for some in await self._merger.spread(bound(self._merge_some, plan=plan), batch) for entry in some
        ]
        if self._report([found for _, found in made]):
            self._to_merge = []
            return
        hashes = {index: found.hex() for index, (found, _) in zip(batch, made, strict=True)}
        self._place.store.bell.ring()
        for start, stop in runs_of(batch):
            self._say(Merged(self.order.attempt, start, tuple(hashes[index] for index in range(start, stop))))
        self._to_merge = [index for index in self._to_merge if index not in hashes]
        if not self._to_merge:
            _log.debug("merged its share", round=self.order.round, term=self.order.term, segments=len(self._mine))
        self._finish_when_complete()

    def _merge_some(self, indices: Sequence[int], plan: Plan) -> list[tuple[bytes, Found]]:
        made = []
        room = memoryview(bytearray(SEGMENT_BYTES))
        for index in indices:
            out = room[: self.draft.size_of(index)]
            bad = self.work.combine(index, self._blocks(index), plan, out)
            self._let_go(index)
            with self._place.store.errors(self.draft.size):
                made.append((b"" if bad else self.draft.put(index, out), bad))
            self._merger.moved(len(self._entries) * len(out))
        return made

    def _report(self, found: Sequence[Found]) -> bool:
        """Whether somebody's values are not finite."""
        bad = [entry for some in found for entry in some]
        for entry in bad:
            self._say(NonFinite(self.order.attempt, entry.name, entry.tensor))
        return bool(bad)

    def _blocks(self, index: int) -> Blocks:
        segment = self.work.segments[index]
        return {entry.name: segment.cut(self._merger.input(entry).view(*segment.needs)) for entry in self._entries}

    def _let_go(self, index: int) -> None:
        for entry in self._entries:
            self._merger.input(entry).done_with(*self.work.segments[index].needs)

    def _ready(self, indices: Sequence[int]) -> Sequence[int]:
        """The first of them, as many as are there of everybody and can be worked on at once."""
        most = BATCH_SEGMENTS * self._merger.threads
        count = 0
        while count < min(len(indices), most) and self._there(indices[count]):
            count += 1
        return indices[:count]

    def _there(self, index: int) -> bool:
        needed = self._needs(index)
        return all(self._merger.input(entry).has(needed) for entry in self._entries)

    def _needs(self, index: int) -> range:
        """The segments that the bytes lie in which one segment of the result is made of."""
        start, stop = self.work.segments[index].needs
        return range(start // SEGMENT_BYTES, count_of(stop))
