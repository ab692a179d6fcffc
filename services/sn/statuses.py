"""A training's view as a message of the API."""

from collections.abc import Callable, Iterable

from services.chain.events import CheckedIn, LeftOut, TrainingConfig
from services.rpc import swarm_pb2 as pb
from services.sn.liveness import LOST
from services.sn.membership import DirectoryMember
from services.sn.training import Participant, Result, TrainingView

MemberOf = Callable[[str], DirectoryMember | None]


def status(view: TrainingView, now: float, member_of: MemberOf) -> pb.TrainingStatus:
    """``now``: in seconds, by the clock that timed the view's progress.

    ``member_of``: an SL's entry in the directory. So a node that comes back at another address, or with a new key,
    appears so at once, not only after its next check-in.
    """
    people = [_participant(who, member_of(who.name), view.first_round) for who in view.participants.values()]
    return _message(view, now, people, [_check_in(entry) for entry in view.check_ins.values()])


class StatusChanges:
    """What has changed in a view from one call to the next, as messages for participants.

    The reports of the others are not included: no participant needs them, and sending each report of each round to
    everybody would cost the square of the number of nodes.
    """

    def __init__(self, view: TrainingView, clock: Callable[[], float], member_of: MemberOf) -> None:
        self._view = view
        self._clock = clock
        self._member_of = member_of
        self._version = 0
        self._people: dict[str, tuple[Participant, DirectoryMember | None]] = {}
        self._check_ins: dict[str, CheckedIn] = {}

    def since_last(self) -> bytes:
        """The changes, serialised. The first call returns everybody, as all are new."""
        view, before, entered = self._view, self._people, self._check_ins
        self._people = {name: (who, self._member_of(name)) for name, who in view.participants.items()}
        self._check_ins = dict(view.check_ins)
        people = [
            _participant(who, member, view.first_round)
            for name, (who, member) in self._people.items()
            if not _same(before.get(name), who, member)
        ]
        check_ins = [entry for name, entry in view.check_ins.items() if entered.get(name) is not entry]
        gone = [name for name, entry in entered.items() if view.check_ins.get(name) is not entry]
        message = _message(view, self._clock(), people, [_check_in(entry) for entry in check_ins])
        message.since, self._version = self._version, view.version
        message.check_ins_gone.extend(gone)
        return message.SerializeToString()


def _same(before: tuple[Participant, DirectoryMember | None] | None, who: Participant, member: object) -> bool:
    """Whether nothing but reports has changed. Both objects are replaced whenever anything in them changes."""
    return before is not None and before[1] is member and (before[0] is who or before[0].unreported == who.unreported)


def _message(
    view: TrainingView, now: float, people: list[pb.Participant], check_ins: list[pb.CheckIn]
) -> pb.TrainingStatus:
    return pb.TrainingStatus(
        contract=view.contract,
        location=view.location,
        version=view.version,
        state=view.state,
        round=view.round,
        term=view.term,
        leader=view.leader,
        config=None if view.config is None else config_message(view.config),
        layout=view.layout,
        layout_by=view.layout_by,
        participants=people,
        check_ins=check_ins,
        last_result=_result(view.last_result),
        awaited=view.awaited,
        progress=_progress(view, now),
        left_out=_left_out(view.left_out),
        first_round=view.first_round,
        block=max(0, view.position.block),
    )


def _check_in(entry: CheckedIn) -> pb.CheckIn:
    return pb.CheckIn(
        name=entry.name,
        digest=entry.digest,
        size=entry.size,
        weight=entry.weight,
        finished=entry.finished,
        staleness=entry.staleness,
    )


def config_message(agreed: TrainingConfig) -> pb.Config:
    return pb.Config(
        min_peers=agreed.min_peers,
        sync_frequency=agreed.sync_frequency,
        merge_method=agreed.merge_method,
        adaptive_sync=agreed.adaptive_sync,
        quorum_wait_ms=agreed.quorum_wait_ms,
        transfer_compression=agreed.transfer_compression,
        first_merge=agreed.first_merge,
        model_version=agreed.model_version,
        weighting=agreed.weighting,
        patience=agreed.patience,
        metric_down=agreed.metric_down,
    )


def _participant(who: Participant, member: DirectoryMember | None, first_round: int) -> pb.Participant:
    """Without reports from before ``first_round``: they belong to an earlier training of the contract."""
    host, port = (member.host, member.port) if member else (who.host, who.port)
    reported = who if who.report_round >= first_round else Participant(who.name, who.fingerprint, who.may_lead)
    return pb.Participant(
        name=who.name,
        host=host,
        port=port,
        fingerprint=member.fingerprint if member else who.fingerprint,
        organization=member.organization if member else "",
        active=who.active,
        may_lead=who.may_lead,
        report_round=reported.report_round,
        loss=reported.loss,
        metric=reported.metric,
        epochs_done=reported.epochs_done,
        epochs_total=reported.epochs_total,
        left_reason=who.left_reason,
        lost=who.left_reason == LOST,
        previous_fingerprint=member.previous if member else b"",
        previous_until=member.previous_until if member else 0.0,
    )


def _result(result: Result | None) -> pb.RoundResult | None:
    if result is None:
        return None
    return pb.RoundResult(
        round=result.round,
        term=result.term,
        leader=result.leader,
        digest=result.digest,
        size=result.size,
        merged=result.merged,
        left_out=_left_out(result.left_out),
        interval=result.interval,
        pace=result.pace,
        best_round=result.best_round,
        stopped_early=result.stopped_early,
    )


def _left_out(entries: Iterable[LeftOut]) -> list[pb.LeftOut]:
    return [pb.LeftOut(name=entry.name, reason=entry.reason, not_finite=entry.not_finite) for entry in entries]


def _progress(view: TrainingView, now: float) -> pb.Progress | None:
    moved = view.progress
    if moved is None:
        return None
    return pb.Progress(bytes_done=moved.bytes_done, bytes_total=moved.bytes_total, age_s=max(0.0, now - moved.at))
