"""The state of a swarm in words, shared by all programs that show it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from services.identity.expiry import WARN_DAYS
from services.rpc import swarm_pb2 as pb


class Change(Protocol):
    """What organizations vote on."""

    @property
    def change(self) -> str: ...
    @property
    def organization(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def node(self) -> str: ...


def change_in_words(it: Change) -> str:
    """``let the SN b-2 of hospital-b in``"""
    match it.change:
        case "admit":
            return f"admit {it.organization}"
        case "admit-sn":
            return f"let the SN {it.node} of {it.organization} in"
        case "expel":
            return f"expel {it.role} {it.node} of {it.organization}"
        case _:
            return f"{it.change} {it.organization}"


def moment_utc(at: float) -> str:
    """``2026-07-03 14:05 UTC``. ``at``: seconds since 1970, UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def headline(status: pb.TrainingStatus) -> str:
    """``round 4 · merging, led by sl-2``"""
    phase: dict[int, Callable[[], str]] = {
        pb.RoundState.UNCONFIGURED: lambda: "no program has opened its channel yet",
        pb.RoundState.CHECKIN: lambda: f"round {status.round} · {_checkin(status)}",
        pb.RoundState.MERGE: lambda: f"round {status.round} · merging, led by {status.leader}",
        pb.RoundState.COMPLETE: lambda: f"complete after round {status.last_result.round}",
    }
    return phase[status.state]()


def describe_result(result: pb.RoundResult) -> str:
    """``round 3 accepted: led by sl-1, merged sl-1 sl-2; left out sl-3 (not finite)``"""
    left_out = ", ".join(f"{entry.name} ({entry.reason})" for entry in result.left_out)
    text = f"round {result.round} accepted: led by {result.leader}, merged {' '.join(sorted(result.merged))}"
    return f"{text}; left out {left_out}" if left_out else text


def ends_soon(name: str, ends: float, now: float) -> str:
    """``The certificate of sl-1 ends in 6 days, at 2026-07-03 14:05 UTC.``; empty if it is too early for a warning.

    ``ends``, ``now``: seconds since 1970, UTC; ``ends`` is 0 if not known.
    """
    left = timedelta(seconds=ends - now)
    if not ends or left > timedelta(days=max(WARN_DAYS)):
        return ""
    at = moment_utc(ends)
    if left <= timedelta():
        return f"The certificate of {name} has ended, at {at}."
    within = f"in {left.days} days" if left.days > 1 else f"in {left.total_seconds() / 3600:.0f} hours"
    return f"The certificate of {name} ends {within}, at {at}."


def doing(node: pb.Participant, status: pb.TrainingStatus) -> str:
    """What a participant is doing now, such as ``trains`` or ``leads``."""
    if status.state == pb.RoundState.COMPLETE and node.name in status.last_result.merged:
        return "done"
    if not node.active:
        return f"left: {node.left_reason}" if node.left_reason else "left"
    if status.state == pb.RoundState.MERGE and node.name == status.leader:
        return "leads"
    checked_in = {entry.name: entry for entry in status.check_ins}
    if node.name in checked_in:
        return "finished" if checked_in[node.name].finished else "checked in"
    return "trains"


def _checkin(status: pb.TrainingStatus) -> str:
    have, need = len(status.check_ins), status.config.min_peers
    waiting = f", waiting for {' '.join(sorted(status.awaited))}" if status.awaited else ""
    return f"{have} checked in, {need} needed{waiting}"
