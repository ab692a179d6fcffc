"""When a round is closed without the nodes that are still missing, and for whom it waits."""

from dataclasses import dataclass

from services.rpc.swarm_pb2 import RoundState
from services.sn.training import TrainingView


@dataclass(frozen=True)
class Clock:
    """A running quorum clock, for this round and term: a reopened round starts another clock."""

    round: int
    term: int
    wait_ms: int


@dataclass(frozen=True)
class Waiting:
    """For whom a round waits; ``missing`` peers have not even enrolled. ``leaderless``: minPeers have checked in, but
    none of them may lead.
    """

    round: int
    term: int
    have: int
    need: int
    awaited: tuple[str, ...]
    missing: int
    leaderless: bool = False


def clock(view: TrainingView) -> Clock | None:
    """The clock that should run: if minPeers have checked in, one of them may lead, and others are still awaited."""
    if view.state != RoundState.CHECKIN or view.config is None or not view.awaited:
        return None
    if len(view.check_ins) < view.config.min_peers:
        return None
    if not _somebody_may_lead(view):
        return None
    return Clock(view.round, view.term, view.config.quorum_wait_ms)


def waiting(view: TrainingView) -> Waiting | None:
    """What to log about a round in which somebody waits; None if nobody does."""
    if view.state != RoundState.CHECKIN or view.config is None or not view.check_ins:
        return None
    need = view.config.min_peers
    missing = max(0, need - len(view.active))
    have = len(view.check_ins)
    leaderless = have >= need and not _somebody_may_lead(view)
    return Waiting(view.round, view.term, have, need, tuple(view.awaited), missing, leaderless)


def _somebody_may_lead(view: TrainingView) -> bool:
    return any(view.participants[name].may_lead for name in view.check_ins)
