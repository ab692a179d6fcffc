"""What the leader of a shared merge decides: from what it hears to what it orders, without network, clock or thread."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from services.merge.layout import Layout
from services.merge.work import FIRST_FRAME, Frame, Plan, Work
from services.runtime import logs
from services.sl.inputs import wrong_sizes
from services.sl.layouts import work_of
from services.sl.merging import LeftOut, Outcome
from services.sl.orders import (
    Begin,
    Deal,
    Holds,
    Measure,
    Measured,
    Merged,
    Message,
    NonFinite,
    Offered,
    Refused,
    ServedWrong,
    Settled,
    Shared,
    Unusable,
    unpacked,
)
from services.sl.round import NON_FINITE
from services.sl.shards import COPIES, Shards, runs_of
from services.sl.states import Held
from services.sl.view import CheckedIn, Model, View
from swarm_callback.digest import combine

_log = logs.get("round")


class Sharing:
    """One shared merge, led by ``name``. ``layout``: what the work is about, from the leader's own header.

    ``orders()`` gives what is to be said now, and to whom.
    """

    def __init__(self, name: str, view: View, held: Held | None, layout: Layout) -> None:
        self._name = name
        self._view = view
        self._held = held
        self._layout = layout
        self._left_out = wrong_sizes(view, name)
        self._complaints: dict[str, dict[str, str]] = {}
        self._mergers = [entry.name for entry in view.check_ins if self._may_merge(entry.name)]
        self._orders: list[tuple[str, Message]] = []
        self._attempt = 0
        self._work: Work | None = None
        self._shards = Shards(0, [])
        self._frame: Frame | None = None
        self._frame_number = 0
        self._plan: Plan | None = None
        self._parts: dict[int, bytes] = {}
        self._distrusted: set[str] = set()  # what they say they hold does not count

    def orders(self) -> list[tuple[str, Message]]:
        """Since it was asked last."""
        orders, self._orders = self._orders, []
        return orders

    def begin(self) -> None:
        """From the beginning, with all who are not left out."""
        entries = self._included
        if self._settled_without_work(entries) is not None:
            return
        self._work = work_of(self._view.config, self._layout, entries)
        self._attempt += 1
        mergers = [name for name in self._mergers if name not in self._left_out]
        self._shards = Shards(len(self._work.segments), mergers)
        self._frame = FIRST_FRAME if self._work.measures else None
        self._plan = None if self._work.measures else self._work.plan()
        self._frame_number = 0
        self._parts = {}
        where = {"round": self._view.round, "term": self._view.term}
        _log.debug("shared out", stage="merge", mergers=", ".join(mergers), **where)
        for entry in self._view.check_ins:
            self._say(entry.name, self._begin_order(entries))
        self._deal(self._shards.deal())

    def heard(self, name: str, message: Message) -> None:
        if getattr(message, "attempt", self._attempt) != self._attempt:
            return  # of an attempt that is void
        match message:
            case Unusable(accused, reason):
                if self._view.checked_in(accused) is not None and accused not in self._left_out:
                    self._complaints.setdefault(accused, {})[name] = reason
            case NonFinite(_, accused, tensor):
                if any(entry.name == accused for entry in self._included):
                    self._leave_out(accused, f"{NON_FINITE} values in tensor {tensor}")
            case Measured(_, frame, start, parts):
                self._measured(name, frame, start, parts)
            case Merged(_, start, hashes):
                self._merged(name, start, hashes)
            case Holds(_, segments):
                if name not in self._distrusted:
                    self._shards.holds(name, segments)
            case ServedWrong(_, accused):
                self._served_wrong(accused, name)
            case Refused(reason):
                self.lost(name, reason)

    def lost(self, name: str, why: str) -> None:
        """``name`` merges no more in this term; when it can be reached, it is told where the result is."""
        if name == self._name:
            return
        if name in self._mergers:
            self._mergers.remove(name)
            _log.warning("a merger is lost", merger=name, round=self._view.round, term=self._view.term, why=why)
        fresh = self._shards.lose(name)
        self._say(name, self._begin_order(self._included))
        for index in range(self._shards.count):
            self._offer(name, index)
        self._deal(fresh)

    def judge(self, has_all_of: Callable[[str], bool]) -> None:
        """Whose fault it is that a merger cannot get somebody's parameters: what the leader finds itself counts."""
        for accused, by in list(self._complaints.items()):
            if self._name in by or set(self._mergers) <= by.keys():
                del self._complaints[accused]
                self._leave_out(accused, by.get(self._name) or next(iter(by.values())))
            elif has_all_of(accused):
                del self._complaints[accused]
                for name, reason in by.items():
                    self.lost(name, f"it alone cannot use those of {accused}: {reason}")

    def waits_for(self, name: str) -> bool:
        """Whether the merge cannot go on without this merger."""
        return self._shards.owes(name)

    def outcome(self, others_there: bool) -> Outcome | None:
        """None while there is none. ``others_there``: whether anybody else is left that could hold the result."""
        without_work = self._settled_without_work(self._included)
        if without_work is not None:
            return without_work
        names = {entry.name for entry in self._included}
        whole = [name for name in self._shards.whole() if name in names]
        if not self._shards.known or len(whole) < (COPIES if others_there else 1):
            return None
        digest = combine(bytes.fromhex(self._view.layout), [entry for entry in self._shards.hashes if entry]).hex()
        return Outcome(Model(digest, self._included[0].size, self._view.layout), self._sorted)

    # --- what is decided ------------------------------------------------------------------------------------

    @property
    def _included(self) -> list[CheckedIn]:
        return [entry for entry in self._view.check_ins if entry.name not in self._left_out]

    @property
    def _sorted(self) -> LeftOut:
        return tuple(sorted(self._left_out.items()))

    def _may_merge(self, name: str) -> bool:
        member = self._view.member(name)
        return name == self._name or (member is not None and member.active and member.may_lead)

    def _settled_without_work(self, entries: Sequence[CheckedIn]) -> Outcome | None:
        if len(entries) < self._view.config.min_peers or not entries:
            return Outcome(None, self._sorted)
        if self._held is not None and not any(entry.weight for entry in entries):
            return Outcome(self._held.model, self._sorted)
        return None

    def _leave_out(self, name: str, reason: str) -> None:
        self._left_out[name] = reason
        self.begin()

    def _measured(self, name: str, frame: int, start: int, parts: Sequence[str]) -> None:
        if self._work is None or self._frame is None or frame != self._frame_number:
            return
        for index, part in enumerate(parts, start):
            if 0 <= index < self._shards.count:
                self._parts.setdefault(index, unpacked(part))
        if len(self._parts) < self._shards.count:
            return
        side = sum(1 for entry in self._included if entry.weight) or len(self._included)
        try:
            matrices = [np.frombuffer(self._parts[index]).reshape(side, side) for index in range(self._shards.count)]
            settled = self._work.settle(matrices, self._frame)
        except ValueError as error:  # whose it is cannot be told: the leader does it all
            for merger in [merger for merger in self._mergers if merger != self._name]:
                self.lost(merger, str(error))
            self.begin()
            return
        if isinstance(settled, Frame):
            self._frame, self._frame_number, self._parts = settled, self._frame_number + 1, {}
            self._say_to_mergers(Measure(self._frame_number, settled.centre, settled.scale.hex()))
        else:
            self._frame, self._plan, self._parts = None, settled, {}
            self._say_to_mergers(self._plan_order(settled))
            for merger in self._shards.mergers:
                self._tell_of(merger, self._shards.of(merger))

    def _merged(self, name: str, start: int, hashes: Sequence[str]) -> None:
        if not self._shards.made(name, start, [bytes.fromhex(entry) for entry in hashes]):
            _log.info("segments that were not asked for", by=name, round=self._view.round, start=start)
            return
        for entry in self._view.check_ins:
            if entry.name != name:
                self._say(entry.name, Offered(name, start, tuple(hashes)))

    # --- what is said ---------------------------------------------------------------------------------------

    def _begin_order(self, entries: Sequence[CheckedIn]) -> Begin:
        return Begin(self._view.round, self._view.term, self._attempt, tuple(entry.name for entry in entries))

    def _deal(self, shares: Mapping[str, Sequence[int]]) -> None:
        for name, indices in shares.items():
            if self._frame_number and self._frame is not None:  # one that measures for the first time
                self._say(name, Measure(self._frame_number, self._frame.centre, self._frame.scale.hex()))
            self._say(name, Deal(runs_of(indices)))
            if self._plan is not None:
                self._say(name, self._plan_order(self._plan))
                self._tell_of(name, indices)

    def _tell_of(self, merger: str, indices: Sequence[int]) -> None:
        """All others may ask ``merger`` for what it is going to make."""
        for entry in self._view.check_ins:
            if entry.name != merger:
                self._say(entry.name, Shared(merger, runs_of(indices)))

    def _plan_order(self, plan: Plan) -> Settled:
        return Settled(None if plan.shares is None else tuple(share.hex() for share in plan.shares))

    def _offer(self, name: str, index: int) -> None:
        found, holder = self._shards.hashes[index], self._shards.holder_of(index)
        if found is not None and holder is not None and holder != name:
            self._say(name, Offered(holder, index, (found.hex(),)))

    def _served_wrong(self, accused: str, by: str) -> None:
        """What the leader finds itself counts; another gets its segments elsewhere, as soon as they are there."""
        if by != self._name:
            self._say(by, Shared(self._name, ((0, self._shards.count),)))
        elif accused not in self._distrusted:
            self._distrusted.add(accused)
            self.lost(accused, "it serves other bytes than it has merged")

    def _say_to_mergers(self, message: Message) -> None:
        for name in self._shards.mergers:
            self._say(name, message)

    def _say(self, name: str, message: Message) -> None:
        self._orders.append((name, message))
