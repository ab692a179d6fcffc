"""The decisions of a shared merge's leader: turns answers into orders, without network, clock or thread."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from services.merge.gram import Matrix
from services.merge.layout import Layout
from services.merge.work import FIRST_FRAME, Frame, MergeJob, Plan
from services.runtime import logs
from services.sl.round.states import HeldModel
from services.sl.sharding.inputs import wrong_sizes
from services.sl.sharding.layouts import work_of
from services.sl.sharding.leader_merge import MergeOutcome, non_finite
from services.sl.sharding.messages import (
    AssignedRuns,
    BeginAttempt,
    Deal,
    Declined,
    Examine,
    Examined,
    FoundNonFinite,
    Holds,
    Measure,
    Measured,
    MergedSegments,
    Seen,
    ServedWrong,
    Serves,
    Settled,
    ShardMessage,
    Unreadable,
    Unusable,
    in_messages,
    unpacked,
)
from services.sl.sharding.table import COPIES, ShardTable, runs_of
from services.sl.view import CheckInEntry, Exclusion, Model, View
from swarm_callback.digest import combine

_log = logs.get("round")


@dataclass(frozen=True)
class Accusation:
    """A complaint about the parameters of ``name``. ``words``: what is said of the accuser if it is not true.

    ``lie``: if untrue, it cannot be a mistake, such as one due to a broken connection.
    """

    name: str
    segment: int
    words: str
    lie: bool = False


class ShardScheduler:
    """One shared merge, led by ``name``. ``layout``: that of the model, from the leader's own header.

    ``orders()`` gives the messages to send now, with their receivers. A participant is left out only for what the
    leader has found itself: complaints of others are examined first, and cost them their share if untrue.
    """

    def __init__(self, name: str, view: View, held: HeldModel | None, layout: Layout) -> None:
        self._name = name
        self._view = view
        self._held = held
        self._layout = layout
        self._left_out = wrong_sizes(view, name)
        self._accusations: dict[tuple[str, str], Accusation] = {}  # by accuser and accused
        self._mergers = [entry.name for entry in view.check_ins if self._may_merge(entry.name)]
        self._orders: list[tuple[str, ShardMessage]] = []
        self._attempt = 0
        self._work: MergeJob | None = None
        self._shards = ShardTable(0, [])
        self._frame: Frame | None = None
        self._frame_number = 0
        self._plan: Plan | None = None
        self._parts: dict[int, Matrix] = {}
        self._distrusted: set[str] = set()  # their reports of segments do not count
        self._helped: set[tuple[str, str]] = set()  # (complainant, accused): the leader serves the former

    def orders(self) -> list[tuple[str, ShardMessage]]:
        """The orders since the last call."""
        orders, self._orders = self._orders, []
        return orders

    def begin(self) -> None:
        """Begins a new attempt, with all who are not left out."""
        entries = self._included
        if self._settled_without_work(entries) is not None:
            return
        self._work = work_of(self._view.config, self._layout, entries)
        self._attempt += 1
        mergers = [name for name in self._mergers if name not in self._left_out] or [self._name]
        self._shards = ShardTable(len(self._work.segments), mergers)
        self._frame = FIRST_FRAME if self._work.measures else None
        self._plan = None if self._work.measures else self._work.plan()
        self._frame_number = 0
        self._parts = {}
        self._helped.clear()
        where = {"round": self._view.round, "term": self._view.term}
        _log.debug("shared out", stage="merge", mergers=", ".join(mergers), **where)
        for entry in self._view.check_ins:
            self._say(entry.name, self._begin_order(entries))
        self._deal(self._shards.deal())

    def heard(self, name: str, message: ShardMessage) -> None:
        """Processes a message. Raises Unreadable, before anything counts, for what ``name`` cannot have to say."""
        attempt = getattr(message, "attempt", self._attempt)
        if attempt > self._attempt:
            raise Unreadable(f"it speaks of attempt {attempt}, and this is {self._attempt}")
        if attempt < self._attempt:
            return  # it is void
        if name == self._name:
            self._found(message)
            return
        match message:
            case Unusable(accused, reason, segment):
                self._accused(name, Accusation(accused, segment, f"it alone cannot use those of {accused}: {reason}"))
            case FoundNonFinite(_, accused, segment):
                if name in self._shards.mergers and not self._shards.owns(name, segment, segment + 1):
                    raise Unreadable(f"it has not looked at segment {segment}, which was not dealt to it")
                words = f"it says that values of {accused} in segment {segment} are not finite, and they are"
                self._accused(name, Accusation(accused, segment, words, lie=True))
            case ServedWrong(_, accused):
                self._served_wrong(accused, name)
            case Declined(reason):
                self.lost(name, reason)
            case _:
                self._has_worked(name, message)

    def lost(self, name: str, why: str) -> None:
        """``name`` merges no more in this term; when it can be reached, it is told where to fetch the result."""
        if name == self._name or not self._included:
            return
        self._give_up(name, why)
        fresh = self._shards.lose(name)
        self._say(name, self._begin_order(self._included))
        self._offer_all(name)
        self._deal(fresh)

    def cut_off(self, name: str, why: str) -> None:
        """``name`` is ignored from now on, through its own fault; its copy of the result is not waited for either."""
        self._distrusted.add(name)
        self.lost(name, why)

    def waits_for(self, name: str) -> bool:
        """Whether the merge needs this merger to continue; not while its complaint about another is examined."""
        return self._shards.owes(name) and not any(by == name for by, _ in self._accusations)

    def outcome(self, there: Collection[str]) -> MergeOutcome | None:
        """The outcome, or None while there is none. ``there``: other nodes present that could hold the result;
        distrusted ones are not waited for.
        """
        without_work = self._settled_without_work(self._included)
        if without_work is not None:
            return without_work
        names = {entry.name for entry in self._included}
        whole = [name for name in self._shards.whole() if name in names]
        others = names.intersection(there) - self._distrusted - {self._name}
        if not self._shards.known or len(whole) < (COPIES if others else 1):
            return None
        digest = combine(bytes.fromhex(self._view.layout), [entry for entry in self._shards.hashes if entry]).hex()
        model = Model(digest, self._included[0].size, self._view.layout)
        return MergeOutcome(model, self._sorted, tuple(whole))

    # --- what is decided ------------------------------------------------------------------------------------

    @property
    def _included(self) -> list[CheckInEntry]:
        return [entry for entry in self._view.check_ins if entry.name not in self._left_out]

    @property
    def _sorted(self) -> tuple[Exclusion, ...]:
        return tuple(sorted(self._left_out.values()))

    def _may_merge(self, name: str) -> bool:
        member = self._view.member(name)
        return name == self._name or (member is not None and member.active and member.may_lead)

    def _settled_without_work(self, entries: Sequence[CheckInEntry]) -> MergeOutcome | None:
        if len(entries) < self._view.config.min_peers or not entries:
            return MergeOutcome(None, self._sorted)
        if self._held is not None and not any(entry.weight for entry in entries):
            return MergeOutcome(self._held.model, self._sorted)
        return None

    def _leave_out(self, excluded: Exclusion) -> None:
        name = excluded.name
        if self._view.checked_in(name) is None or name in self._left_out:
            return
        self._left_out[name] = excluded
        self._accusations = {about: said for about, said in self._accusations.items() if said.name != name}
        self.begin()

    def _give_up(self, name: str, why: str) -> None:
        if name in self._mergers:
            self._mergers.remove(name)
            _log.warning("merger lost", merger=name, round=self._view.round, term=self._view.term, why=why)

    def _accused(self, by: str, said: Accusation) -> None:
        """Each node may have one complaint about each other at a time."""
        self._expect_participant(said.name)
        if said.segment >= self._shards.count:
            raise Unreadable(f"it speaks of segment {said.segment} of {self._shards.count}")
        if by not in self._shards.mergers or said.name in self._left_out or (by, said.name) in self._accusations:
            return
        self._accusations[by, said.name] = said
        self._say(self._name, Examine(said.name, said.segment))

    def _sound(self, name: str, segment: int) -> None:
        """The leader has examined this segment of the parameters of ``name`` and found no fault."""
        for (by, accused), said in list(self._accusations.items()):
            if (accused, said.segment) == (name, segment):
                del self._accusations[by, accused]
                (self._distrust if said.lie else self.lost)(by, said.words)

    def _found(self, message: ShardMessage) -> None:
        """Processes a message of the leader's own merger, which is trusted."""
        match message:
            case Unusable(accused, reason, _):
                self._leave_out(Exclusion(accused, reason))
            case Examined(accused, _, tensor) if tensor:
                self._leave_out(non_finite(accused, tensor))
            case Examined(accused, segment, _):
                self._sound(accused, segment)
            case FoundNonFinite(_, accused, segment):
                self._say(self._name, Examine(accused, segment))  # for the name of the tensor
            case Seen(_, start, hashes):
                self._seen(start, hashes)
            case ServedWrong(_, accused):
                self._distrust(accused, "it serves other bytes than it has merged")
            case _:
                self._has_worked(self._name, message)

    def _has_worked(self, name: str, message: ShardMessage) -> None:
        match message:
            case Measured(_, frame, start, parts):
                self._measured(name, frame, start, parts)
            case MergedSegments(_, start, hashes):
                self._merged(name, start, hashes)
            case Holds(_, segments):
                if segments[-1] >= self._shards.count:
                    raise Unreadable(f"it holds segment {segments[-1]} of {self._shards.count}")
                if name not in self._distrusted:
                    self._shards.holds(name, segments)

    def _measured(self, name: str, number: int, start: int, parts: Sequence[str]) -> None:
        if name not in self._shards.mergers or self._work is None:
            return
        if not self._shards.owns(name, start, start + len(parts)) or number > self._frame_number:
            raise Unreadable(f"it has measured segment {start}, which was not asked of it")
        if self._frame is None or number != self._frame_number:
            return
        side = sum(1 for entry in self._included if entry.weight) or len(self._included)
        read = [_matrix(part, side, finite=self._frame.scale != 1) for part in parts]
        self._parts.update(enumerate(read, start))
        if len(self._parts) == self._shards.count:
            self._settle(self._work, self._frame)

    def _settle(self, work: MergeJob, frame: Frame) -> None:
        try:
            settled = work.settle([self._parts[index] for index in range(self._shards.count)], frame)
            sound = isinstance(settled, Frame) or bool(np.isfinite(settled.shares or ()).all())
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            sound, settled = False, frame
            _log.debug("a measurement cannot be used", why=str(error))
        if not sound:  # it is unknown whose fault it is: the leader does it all
            for merger in [merger for merger in self._mergers if merger != self._name]:
                self.lost(merger, "what the mergers have measured does not fit together")
            self.begin()
        elif isinstance(settled, Frame):
            self._frame, self._frame_number, self._parts = settled, self._frame_number + 1, {}
            self._say_to_mergers(Measure(self._frame_number, settled.centre, settled.scale.hex()))
        else:
            self._frame, self._plan, self._parts = None, settled, {}
            self._say_to_mergers(self._plan_order(settled))
            for merger in self._shards.mergers:
                self._tell_of(merger, self._shards.of(merger))

    def _merged(self, name: str, start: int, hashes: Sequence[str]) -> None:
        found = [bytes.fromhex(entry) for entry in hashes]
        if start + len(found) > self._shards.count:
            raise Unreadable(f"it has merged segment {start + len(found) - 1} of {self._shards.count}")
        if name not in self._shards.mergers:  # it was given up
            return
        if self._plan is None or not self._shards.owns(name, start, start + len(found)):
            raise Unreadable(f"it has merged segments from {start} on, which was not asked of it")
        before = self._shards.contradicted(start, found)
        if before == name != self._name:
            self._distrust(name, "it tells another hash of what it has merged than before")
        elif before is not None:  # whoever reported it first is gone; it is unknown which of the two is right
            _log.warning(
                "a segment differs from the one that its first merger made", by=name, before=before, start=start
            )
            self.begin()
        elif self._shards.made(name, start, found):
            self._offer_to_all(name, start, hashes)

    def _seen(self, start: int, hashes: Sequence[str]) -> None:
        """A segment that was served to the leader counts as made, even if its merger never reports it."""
        if self._plan is None:
            return
        for index, found in enumerate(hashes, start):
            told = self._shards.hashes[index] is not None
            if self._shards.seen(self._name, index, bytes.fromhex(found)) and not told:
                self._say(self._name, Serves(self._name, index, (found,)))
                self._offer_to_all(self._name, index, (found,))

    def _distrust(self, name: str, why: str) -> None:
        """Drops all that ``name`` has reported: a new attempt begins, and ``name`` merges nothing in this term."""
        if name == self._name or name in self._distrusted:
            return
        self._distrusted.add(name)
        self._give_up(name, why)
        self.begin()

    def _served_wrong(self, accused: str, by: str) -> None:
        """Offers ``by`` the segments of the accused from the leader; only the leader's own finding counts."""
        self._expect_participant(accused)
        if (by, accused) not in self._helped:
            self._helped.add((by, accused))
            self._say(by, AssignedRuns(self._name, ((0, self._shards.count),)))

    def _expect_participant(self, name: str) -> None:
        if self._view.checked_in(name) is None:
            raise Unreadable(f"it speaks of {name}, who takes no part")

    # --- what is said ---------------------------------------------------------------------------------------

    def _begin_order(self, entries: Sequence[CheckInEntry]) -> BeginAttempt:
        return BeginAttempt(self._view.round, self._view.term, self._attempt, tuple(entry.name for entry in entries))

    def _deal(self, shares: Mapping[str, Sequence[int]]) -> None:
        for name, indices in shares.items():
            if self._frame_number and self._frame is not None:  # for a merger that measures for the first time
                self._say(name, Measure(self._frame_number, self._frame.centre, self._frame.scale.hex()))
            for some in in_messages(runs_of(indices)):
                self._say(name, Deal(tuple(some)))
            if self._plan is not None:
                self._say(name, self._plan_order(self._plan))
                self._tell_of(name, indices)

    def _tell_of(self, merger: str, indices: Sequence[int]) -> None:
        """Tells all others that they may ask ``merger`` for what it is going to make."""
        for some in in_messages(runs_of(indices)):
            for entry in self._view.check_ins:
                if entry.name != merger:
                    self._say(entry.name, AssignedRuns(merger, tuple(some)))

    def _plan_order(self, plan: Plan) -> Settled:
        return Settled(None if plan.shares is None else tuple(share.hex() for share in plan.shares))

    def _offer_all(self, name: str) -> None:
        """Tells ``name`` all that is known of the result, in case it missed it."""
        hashes = self._shards.hashes
        by_holder = groupby(range(self._shards.count), lambda index: hashes[index] and self._shards.holder_of(index))
        for holder, indices in by_holder:
            if isinstance(holder, str) and holder != name:
                for some in in_messages(list(indices)):
                    found = tuple((hashes[index] or b"").hex() for index in some)
                    self._say(name, Serves(holder, some[0], found))

    def _offer_to_all(self, by: str, start: int, hashes: Sequence[str]) -> None:
        for entry in self._view.check_ins:
            if entry.name != by:
                self._say(entry.name, Serves(by, start, tuple(hashes)))

    def _say_to_mergers(self, message: ShardMessage) -> None:
        for name in self._shards.mergers:
            self._say(name, message)

    def _say(self, name: str, message: ShardMessage) -> None:
        self._orders.append((name, message))


def _matrix(text: str, side: int, *, finite: bool) -> Matrix:
    """Decodes a Gram matrix. Raises Unreadable. At scale 1, a square may be too large for its float."""
    try:
        matrix = np.frombuffer(unpacked(text)).reshape(side, side)
    except ValueError as error:
        raise Unreadable(f"what it has measured of {side} sets is no matrix of them ({error})") from None
    if finite and not np.isfinite(matrix).all():
        raise Unreadable("what it has measured is not finite")
    return matrix
