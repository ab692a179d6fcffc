"""What a node knows of its training: plain data, as its SN last reported it."""

import time
from dataclasses import dataclass
from functools import cached_property

from services.rpc.swarm_pb2 import RoundState
from services.rpc.version import events_in


@dataclass(frozen=True)
class Model:
    """One parameter stream. ``digest`` and ``layout``: 64 hex digits; ``size``: bytes of the whole stream."""

    digest: str
    size: int
    layout: str


@dataclass(frozen=True)
class TrainingMember:
    """A participant of the training; ``host:port`` is its file server, ``fingerprint`` that of its public key, in hex.

    ``lost``: it is not active because nothing was heard of it, and may come back. ``may_lead``: it may lead, and merge
    a share. ``previous``: a replaced key, which is valid until ``previous_until``, seconds since 1970 (UTC).
    """

    name: str
    host: str
    port: int
    fingerprint: str
    active: bool
    lost: bool = False
    may_lead: bool = True
    previous: str = ""
    previous_until: float = 0.0

    @property
    def keys(self) -> tuple[str, ...]:
        """Key fingerprints that are valid now."""
        known = (self.fingerprint, self.previous) if time.time() < self.previous_until else (self.fingerprint,)
        return tuple(key for key in known if key)


@dataclass(frozen=True)
class CheckInEntry:
    """A check-in to the running round. ``staleness``: results since the one from which its parameters were trained."""

    name: str
    digest: str
    size: int
    weight: int
    finished: bool
    staleness: int = 0


@dataclass(frozen=True, order=True)
class Exclusion:
    """A participant that the leader left out, and why. ``not_finite``: its parameters hold NaN or infinity."""

    name: str
    reason: str
    not_finite: bool = False


@dataclass(frozen=True)
class AcceptedResult:
    """An accepted round.

    ``interval``: batches until the next round, 0 if the SN does not say; ``pace``: the reason for it, empty if it is
    not adaptive. ``best_round``: the round with the best mean metric so far, 0 if nobody asks. ``stopped_early``: the
    patience that ran out, else 0.
    """

    round: int
    digest: str
    size: int
    leader: str
    merged: tuple[str, ...]
    left_out: tuple[Exclusion, ...] = ()
    term: int = 0
    interval: int = 0
    pace: str = ""
    best_round: int = 0
    stopped_early: int = 0


@dataclass(frozen=True)
class Config:
    """The configuration of the first node to enrol. ``follows_reports``: whether decisions depend on the nodes'
    reports.
    """

    min_peers: int
    sync_frequency: int
    merge_method: str
    transfer_compression: str = "none"
    first_merge: str = "average"
    follows_reports: bool = False


@dataclass(frozen=True)
class View:
    """The state of a training. ``left_out``: who was left out of the running round when it was reopened.

    ``version`` grows with every change; views may arrive out of order, and from several SNs (``source``). ``block``:
    that of the newest change.
    """

    phase: RoundState
    round: int
    term: int
    leader: str
    config: Config
    layout: str
    layout_by: str
    members: tuple[TrainingMember, ...]
    check_ins: tuple[CheckInEntry, ...]
    last: AcceptedResult | None
    awaited: tuple[str, ...] = ()
    left_out: tuple[Exclusion, ...] = ()
    version: int = 0
    block: int = 0
    location: str = ""  # address of the training's contract
    first_round: int = 1  # of this training; above 1 if the contract was reset
    source: str = ""
    progress_age_s: float | None = None  # seconds since the leader last reported progress; None before

    def older_than(self, other: "View") -> bool:
        """Whether the training was less far in this view; of equal views from different SNs, neither is older."""
        mine = (self._standing, events_in(self.version))
        theirs = (other._standing, events_in(other.version))
        if mine != theirs:
            return mine < theirs
        return self.source == other.source and self.version < other.version

    @property
    def _standing(self) -> tuple[int, bool, int, bool]:
        """Sort key in the order of a training. After its first merge, a round may be open for check-ins again."""
        return self.round, self.complete, self.term, self.phase == RoundState.CHECKIN

    def member(self, name: str) -> TrainingMember | None:
        return self._members_by_name.get(name)

    def checked_in(self, name: str) -> CheckInEntry | None:
        return self._check_ins_by_name.get(name)

    def excluded(self, name: str) -> Exclusion | None:
        """The exclusion of ``name`` from the running round, if there is one."""
        return next((entry for entry in self.left_out if entry.name == name), None)

    @cached_property
    def _members_by_name(self) -> dict[str, TrainingMember]:
        return {member.name: member for member in self.members}

    @cached_property
    def _check_ins_by_name(self) -> dict[str, CheckInEntry]:
        return {entry.name: entry for entry in self.check_ins}

    @property
    def waiting(self) -> str:
        """``waiting for sl-2, sl-3: 1 of 3 in``"""
        have = len(self.check_ins)
        leaders = {member.name for member in self.members if member.may_lead}
        if have >= max(1, self.config.min_peers) and not any(entry.name in leaders for entry in self.check_ins):
            return f"waiting for a node that may lead (SL_MAKE_ME_ADMIN=true): {have} of {have + len(self.awaited)} in"
        of = max(self.config.min_peers, have + len(self.awaited))
        return f"waiting for {', '.join(self.awaited) or 'more nodes'}: {have} of {of} in"

    @property
    def accepted(self) -> int:
        """The newest accepted round; 0 before the first."""
        return self.last.round if self.last else 0

    @property
    def complete(self) -> bool:
        return self.phase == RoundState.COMPLETE
