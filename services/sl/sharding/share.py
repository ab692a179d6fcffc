"""The segments dealt to one node of a shared merge: measured and merged in threads as soon as all have sent them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial as bound
from typing import Protocol, TypeVar

from services.merge.layout import Block, Layout
from services.merge.work import FIRST_FRAME, Blocks, Frame, Plan
from services.merge.work import NotFinite as Found
from services.runtime import logs
from services.runtime.signals import ChangeSignal
from services.sl.sharding.inputs import Input
from services.sl.sharding.layouts import weights_of, work_of
from services.sl.sharding.messages import (
    MEASURED_CHARACTERS,
    BeginAttempt,
    FoundNonFinite,
    Measured,
    MergedSegments,
    ShardMessage,
    Unreadable,
    in_messages,
    packed,
)
from services.sl.sharding.table import runs_of
from services.sl.transfer.partials import Partial, PartialEnded, count_of
from services.sl.transfer.store import Store
from services.sl.view import CheckInEntry, View
from swarm_callback.digest import SEGMENT_BYTES

# Segments that one thread merges before the leader is told.
BATCH_SEGMENTS = 16

Got = TypeVar("Got")
_log = logs.get("round")


class ShareHost(Protocol):
    """What a share works with, and whom it tells: see ShardWorker."""

    view: View
    threads: int

    def say(self, message: ShardMessage) -> None: ...

    def moved(self, count: int) -> None: ...

    def failed(self, error: Exception) -> None: ...

    def unusable(self, name: str, reason: str, segment: int) -> None: ...

    def input(self, entry: CheckInEntry) -> Input: ...

    async def spread(self, work: Callable[[Sequence[int]], Got], indices: Sequence[int]) -> list[Got]: ...

    @property
    def idle_s(self) -> float: ...

    @property
    def stall_s(self) -> float: ...


class Damaged(Exception):
    """A participant's data does not have the size that its segments must have."""

    def __init__(self, name: str, segment: int, problem: str) -> None:
        super().__init__(problem)
        self.name = name
        self.segment = segment


class Share:
    """One node's share of the merge of ``entries``, which ``order`` names. Results go into ``draft``; ``made`` gets the
    segments that were just reported to the leader. ``run`` is to be run; after ``stop`` its threads end after their
    current step.
    """

    def __init__(  # noqa: PLR0917  # what is merged, and where to
        self,
        host: ShareHost,
        order: BeginAttempt,
        entries: Sequence[CheckInEntry],
        layout: Layout,
        store: Store,
        draft: Partial,
        made: Callable[[Iterable[int]], object],
    ) -> None:
        self.work = work_of(host.view.config, layout, entries)
        self._host = host
        self._order = order
        self._entries = entries
        self._store = store
        self._draft = draft
        self._made = made
        self._voters = sum(1 for weight in weights_of(entries).values() if weight)
        self._mine: set[int] = set()
        self._to_measure: list[int] = []
        self._to_merge: list[int] = []
        self._frame, self._frame_number = FIRST_FRAME, 0
        self._plan = None if self.work.measures else self.work.plan()
        self._changed = ChangeSignal()
        self._stopped = False

    def deal(self, indices: Sequence[int]) -> None:
        fresh = [index for index in indices if index not in self._mine]
        _log.debug("merges a share", round=self._order.round, term=self._order.term, segments=len(fresh))
        self._mine.update(fresh)
        lacking = fresh if self._plan is None else [index for index in fresh if not self._draft.has(index)]
        needed = sorted({index for segment in lacking for index in self.needs(segment)})
        for entry in self._entries:
            self._host.input(entry).want(needed)
        self._to_merge = sorted({*self._to_merge, *fresh})
        if self._plan is None:
            self._to_measure = sorted({*self._to_measure, *fresh})
        self.wake()

    def forget(self) -> None:
        """Drops all that was dealt."""
        self._mine.clear()
        self._drop()

    def measure(self, number: int, frame: Frame) -> None:
        """Raises Unreadable."""
        if not self.work.measures or frame.centre >= self._voters:
            raise Unreadable("nothing is to be measured so")
        self._frame, self._frame_number = frame, number
        self._to_measure = sorted(self._mine)
        self.wake()

    def settled(self, plan: Plan) -> None:
        """Raises Unreadable."""
        needed = None if self.work.method.shares is None else self._voters
        if (None if plan.shares is None else len(plan.shares)) != needed:
            raise Unreadable("these are not the shares of those that are merged")
        self._plan = plan
        self._to_measure = []
        self.wake()

    def wake(self) -> None:
        """To be called when more segments may be available."""
        self._changed.notify()

    def stop(self) -> None:
        self._stopped = True

    async def run(self) -> None:
        while True:
            try:
                if batch := self._ready(self._to_measure):
                    await self._measure(batch)
                elif self._plan is not None and (batch := self._ready(self._to_merge, to_merge=True)):
                    await self._merge(batch, self._plan)
                else:
                    await self._changed.wait()
            except Damaged as error:
                self._drop()
                self._host.unusable(error.name, f"its parameters are damaged ({error})", error.segment)

    def needs(self, index: int) -> range:
        """The segments of a contribution that one segment of the result needs."""
        start, stop = self.work.segments[index].needs
        return range(start // SEGMENT_BYTES, count_of(stop))

    def non_finite(self, entry: CheckInEntry, segment: int) -> str:
        """The first tensor with NaN or infinity in a segment of this participant's parameters, which must be here;
        empty if there is none. Raises Damaged, PartialEnded, OSError.
        """
        return self.work.non_finite(segment, self._cut(entry, segment))

    async def _measure(self, batch: Sequence[int]) -> None:
        number = self._frame_number
        work = bound(self._measure_some, frame=self._frame)
        parts = [entry for some in await self._host.spread(work, batch) for entry in some]
        if number != self._frame_number or self._plan is not None:
            return
        if self._report({index: found for index, (_, found) in zip(batch, parts, strict=True)}):
            return
        matrices = {index: packed(matrix) for index, (matrix, _) in zip(batch, parts, strict=True)}
        most = max(1, MEASURED_CHARACTERS // max(len(matrix) for matrix in matrices.values()))
        for start, stop in runs_of(batch):
            for some in in_messages(range(start, stop), most):
                these = tuple(matrices[index] for index in some)
                self._host.say(Measured(self._order.attempt, number, some[0], these))
        self._to_measure = [index for index in self._to_measure if index not in matrices]

    def _measure_some(self, indices: Sequence[int], frame: Frame) -> list[tuple[bytes, Found]]:
        found = []
        for index in indices:
            self._go_on()
            matrix, bad = self.work.measure(index, self._blocks(index), frame)
            self._let_go(index)
            found.append((matrix.tobytes(), bad))
            self._host.moved(len(self._entries) * self._draft.size_of(index))
        return found

    async def _merge(self, batch: Sequence[int], plan: Plan) -> None:
        made = [entry for some in await self._host.spread(bound(self._merge_some, plan=plan), batch) for entry in some]
        if self._report({index: found for index, (_, found) in zip(batch, made, strict=True)}):
            return
        hashes = {index: found.hex() for index, (found, _) in zip(batch, made, strict=True)}
        self._store.draft_grew.notify()
        for start, stop in runs_of(batch):
            self._host.say(
                MergedSegments(self._order.attempt, start, tuple(hashes[index] for index in range(start, stop)))
            )
        self._to_merge = [index for index in self._to_merge if index not in hashes]
        if not self._to_merge:
            _log.debug("merged its share", round=self._order.round, term=self._order.term, segments=len(self._mine))
        self._made(batch)

    def _merge_some(self, indices: Sequence[int], plan: Plan) -> list[tuple[bytes, Found]]:
        made: list[tuple[bytes, Found]] = []
        room = memoryview(bytearray(SEGMENT_BYTES))
        for index in indices:
            self._go_on()
            held = self._draft.expected[index] if self._draft.has(index) else None
            if held is not None:  # its previous merger has served it, and may not have reported it
                made.append((held, ()))
                continue
            out = room[: self._draft.size_of(index)]
            bad = self.work.combine(index, self._blocks(index), plan, out)
            self._let_go(index)
            with self._store.errors(self._draft.size):
                made.append((b"" if bad else self._draft.make(index, out), bad))
            self._host.moved(len(self._entries) * len(out))
        return made

    def _go_on(self) -> None:
        """Raises PartialEnded in a thread whose work is no longer wanted."""
        if self._stopped:
            raise PartialEnded

    def _report(self, found: Mapping[int, Found]) -> bool:
        """Reports values that are not finite. True if there are any; nothing more is merged then."""
        bad = {entry.name: index for index, some in found.items() for entry in some}
        for name, index in bad.items():
            self._host.say(FoundNonFinite(self._order.attempt, name, index))
        if bad:
            self._drop()
        return bool(bad)

    def _drop(self) -> None:
        self._to_measure, self._to_merge = [], []

    def _blocks(self, index: int) -> Blocks:
        return {entry.name: self._cut(entry, index) for entry in self._entries}

    def _cut(self, entry: CheckInEntry, index: int) -> Sequence[Block]:
        segment = self.work.segments[index]
        data = self._host.input(entry).view(*segment.needs)
        try:
            return segment.cut(data)
        except ValueError as error:
            raise Damaged(entry.name, index, str(error)) from None

    def _let_go(self, index: int) -> None:
        for entry in self._entries:
            self._host.input(entry).done_with(*self.work.segments[index].needs)

    def _ready(self, indices: Sequence[int], *, to_merge: bool = False) -> Sequence[int]:
        """The first indices for which all data is here, as many as can be worked on at once."""
        most = BATCH_SEGMENTS * self._host.threads
        count = 0
        while count < min(len(indices), most) and (
            (to_merge and self._draft.has(indices[count])) or self._there(indices[count])
        ):
            count += 1
        return indices[:count]

    def _there(self, index: int) -> bool:
        needed = self.needs(index)
        return all(self._host.input(entry).has(needed) for entry in self._entries)
