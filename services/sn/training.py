"""The state of a training, from its events: who takes part, the current round, the last result."""

from dataclasses import dataclass, field, replace

from services.chain import events as on_chain
from services.rpc.swarm_pb2 import RoundState
from services.sn.event_fold import EventFold
from services.sn.pace import pace_in_words


@dataclass(frozen=True)
class Participant:
    """``report_round`` is 0 before the first report; ``left_reason`` is empty while the node is active. ``loss``,
    ``metric``: None if there is no value.
    """

    name: str
    fingerprint: bytes
    may_lead: bool
    active: bool = True
    host: str = ""
    port: int = 0
    report_round: int = 0
    loss: float | None = None
    metric: float | None = None
    epochs_done: int = 0
    epochs_total: int = 0
    left_reason: str = ""

    @property
    def unreported(self) -> tuple[object, ...]:
        """Everything that does not come from a report."""
        return self.name, self.fingerprint, self.may_lead, self.active, self.host, self.port, self.left_reason


@dataclass(frozen=True)
class Result:
    """An accepted round. ``merged``: names of the nodes whose parameters are in the merge."""

    round: int
    term: int
    leader: str
    digest: bytes
    size: int
    merged: tuple[str, ...]
    left_out: tuple[on_chain.LeftOut, ...]
    interval: int = 0
    pace: str = ""
    best_round: int = 0
    stopped_early: int = 0


@dataclass(frozen=True)
class Progress:
    """How far the leader is; ``at`` is the clock's reading when it last reported."""

    bytes_done: int
    bytes_total: int
    at: float


@dataclass
class TrainingView(EventFold[on_chain.TrainingEvent]):
    """The state of a training, from its events."""

    contract: str
    location: str
    state: RoundState = RoundState.UNCONFIGURED
    round: int = 1
    first_round: int = 1
    term: int = 0
    leader: str = ""
    config: on_chain.TrainingConfig | None = None
    layout: bytes = b""
    layout_by: str = ""
    participants: dict[str, Participant] = field(default_factory=dict)
    check_ins: dict[str, on_chain.CheckedIn] = field(default_factory=dict)
    left_out: list[on_chain.LeftOut] = field(default_factory=list)
    last_result: Result | None = None
    progress: Progress | None = None
    interval: int = 0
    pace: str = ""
    best_round: int = 0

    @property
    def awaited(self) -> list[str]:
        """Active participants that have not checked in to the current round, in the order of enrolment."""
        if self.state != RoundState.CHECKIN:
            return []
        return [name for name, who in self.participants.items() if who.active and name not in self.check_ins]

    @property
    def follows_reports(self) -> bool:
        """Whether decisions depend on what nodes report."""
        return self.config is not None and (self.config.adaptive_sync or self.config.patience > 0)

    @property
    def active(self) -> list[str]:
        return [name for name, who in self.participants.items() if who.active]

    def stands(self, name: str, fingerprint: bytes, may_lead: bool, config: on_chain.TrainingConfig) -> bool:
        """Whether this node already takes part in exactly this way."""
        who = self.participants.get(name)
        if who is None or not who.active or self.state not in (RoundState.CHECKIN, RoundState.MERGE):
            return False
        return (who.fingerprint, who.may_lead, self.config) == (fingerprint, may_lead, config)

    def move(self, progress: Progress) -> None:
        """Takes the leader's sign of life, which is not on the chain."""
        self.progress = progress
        self.touch()

    def _fold(self, event: on_chain.TrainingEvent) -> None:  # noqa: PLR0912  # one branch a kind of event
        """Raises TypeError for an unknown kind."""
        match event:
            case on_chain.Configured():
                self._configured(event)
            case on_chain.Enrolled():
                self._enrolled(event)
            case on_chain.LayoutAgreed():
                self.layout, self.layout_by = event.layout, event.by
            case on_chain.CheckedIn():
                self._checked_in(event)
            case on_chain.MergeStarted():
                self.state, self.term, self.leader, self.progress = RoundState.MERGE, event.term, event.leader, None
            case on_chain.LeftOut():
                self.check_ins.pop(event.name, None)
                self.left_out.append(event)
            case on_chain.RoundReopened():
                self._reopened()
            case on_chain.RoundAccepted():
                self._accepted(event)
            case on_chain.Completed():
                self.state, self.round = RoundState.COMPLETE, event.round
            case on_chain.IntervalChosen():
                self.interval, self.pace = event.interval, pace_in_words(event)
            case on_chain.BestMerged():
                self.best_round = event.round
            case on_chain.StoppedEarly():
                self._stopped_early(event)
            case on_chain.Reported():
                self._reported(event)
            case on_chain.Left():
                self._left(event)
            case on_chain.Reset():
                self._reset(event)
            case on_chain.LeaderVotedOut() | on_chain.LeaderDeposed():
                pass  # their consequences are events of their own
            case _:
                raise TypeError(f"no rule for the event {type(event).__name__}")

    def _configured(self, event: on_chain.Configured) -> None:
        """Discards the layout of an earlier configuration, whose participants all left before a merge."""
        self.state, self.config, self.layout, self.layout_by = RoundState.CHECKIN, event.config, b"", ""
        self.left_out = []
        self.interval, self.pace, self.best_round = event.config.sync_frequency, "", 0

    def _enrolled(self, event: on_chain.Enrolled) -> None:
        known = self.participants.get(event.name) or Participant(event.name, event.fingerprint, event.may_lead)
        known = replace(known, fingerprint=event.fingerprint, may_lead=event.may_lead)  # perhaps with a new key
        self.participants[event.name] = replace(known, active=True, left_reason="")

    def _checked_in(self, event: on_chain.CheckedIn) -> None:
        self.check_ins[event.name] = event
        self._change(event.name, host=event.host, port=event.port)
        self.left_out = [entry for entry in self.left_out if entry.name != event.name]  # it is in again

    def _reopened(self) -> None:
        self.state, self.leader, self.progress = RoundState.CHECKIN, "", None
        self.check_ins = {name: entry for name, entry in self.check_ins.items() if self.participants[name].active}

    def _accepted(self, event: on_chain.RoundAccepted) -> None:
        self.last_result = Result(
            round=event.round,
            term=event.term,
            leader=event.leader,
            digest=event.digest,
            size=event.size,
            merged=tuple(self.check_ins),
            left_out=tuple(self.left_out),
            interval=self.interval,
            pace=self.pace,
            best_round=self.best_round,
        )
        self.state, self.round, self.term, self.leader = RoundState.CHECKIN, event.round + 1, 0, ""
        self.check_ins, self.left_out, self.progress = {}, [], None

    def _stopped_early(self, event: on_chain.StoppedEarly) -> None:
        if self.last_result is not None:
            self.last_result = replace(self.last_result, stopped_early=event.patience)

    def _reported(self, event: on_chain.Reported) -> None:
        self._change(
            event.name,
            report_round=event.round,
            loss=event.loss,
            metric=event.metric,
            epochs_done=event.epochs_done,
            epochs_total=event.epochs_total,
        )

    def _left(self, event: on_chain.Left) -> None:
        self._change(event.name, active=False, left_reason=event.reason)
        if self.state == RoundState.CHECKIN:
            self.check_ins.pop(event.name, None)

    def _reset(self, event: on_chain.Reset) -> None:
        for name in self.active:
            self._change(name, active=False)
        self.state, self.term = RoundState.UNCONFIGURED, 0
        self.round = self.first_round = event.next_round
        self.config, self.layout, self.layout_by, self.last_result = None, b"", "", None
        self.check_ins, self.left_out = {}, []

    def _change(self, name: str, **changes: object) -> None:
        self.participants[name] = replace(self.participants[name], **changes)  # type: ignore[arg-type]
