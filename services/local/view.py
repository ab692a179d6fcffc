"""Says how a local swarm is doing: plain lines, and the words that the table on a terminal shares with them."""

import sys
from collections.abc import Callable
from typing import Protocol, TextIO

from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient


class View(Protocol):
    """Whoever wants to know how a local swarm is doing."""

    def say(self, line: str) -> None:
        """Something happened that stands for itself."""

    def connected(self, client: SNClient, chain: str) -> None:
        """The SN answers and runs this chain; ``client`` is the administrator's, for whoever wants to ask more."""

    def update(self, status: pb.TrainingStatus) -> None:
        """The training has changed."""

    def close(self) -> None:
        """The swarm has ended."""


class Lines:
    """Plain lines: one per event, per accepted round and per round's losses."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._accepted = 0
        self._reported: set[tuple[str, int]] = set()

    def say(self, line: str) -> None:
        print(line, file=self._out, flush=True)

    def connected(self, client: SNClient, chain: str) -> None:
        """What comes with the states is enough."""

    def update(self, status: pb.TrainingStatus) -> None:
        result = status.last_result
        if result.round > self._accepted:
            self._accepted = result.round
            self.say(describe_result(result))
        for node in status.participants:
            report = (node.name, node.report_round)
            if node.report_round and report not in self._reported:
                self._reported.add(report)
                loss = f"{node.name} loss {node.loss:.4g} metric {node.metric:.4g}"
                self.say(f"round {node.report_round}: {loss}{_epochs(node)}")

    def close(self) -> None:
        """Nothing is left to show."""


def headline(status: pb.TrainingStatus) -> str:
    """``round 4 · merging, led by sl-2``"""
    phase: dict[int, Callable[[], str]] = {
        pb.RoundState.UNCONFIGURED: lambda: "no program has opened its channel yet",
        pb.RoundState.CHECKIN: lambda: f"round {status.round} · {_checkin(status)}",
        pb.RoundState.MERGE: lambda: f"round {status.round} · merging, led by {status.leader}",
        pb.RoundState.COMPLETE: lambda: f"complete after round {status.last_result.round}",
    }
    return phase[status.state]()


def rows(status: pb.TrainingStatus) -> list[tuple[str, str, str, str, str, str]]:
    """Node, the round it last reported, what it does, loss, metric, epochs; one per participant."""
    return [
        (
            node.name,
            str(node.report_round or "-"),
            _doing(node, status),
            f"{node.loss:.4f}" if node.report_round else "-",
            f"{node.metric:.4f}" if node.report_round else "-",
            _epochs(node).removeprefix(", epoch ") or "-",
        )
        for node in status.participants
    ]


def describe_result(result: pb.RoundResult) -> str:
    """``round 3 accepted: led by sl-1, merged sl-1 sl-2; left out sl-3 (not finite)``"""
    left_out = ", ".join(f"{entry.name} ({entry.reason})" for entry in result.left_out)
    text = f"round {result.round} accepted: led by {result.leader}, merged {' '.join(sorted(result.merged))}"
    return f"{text}; left out {left_out}" if left_out else text


def _checkin(status: pb.TrainingStatus) -> str:
    have, need = len(status.check_ins), status.config.min_peers
    waiting = f", waiting for {' '.join(sorted(status.awaited))}" if status.awaited else ""
    return f"{have} checked in, {need} needed{waiting}"


def _doing(node: pb.Participant, status: pb.TrainingStatus) -> str:
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


def _epochs(node: pb.Participant) -> str:
    if not node.epochs_done and not node.epochs_total:
        return ""
    return f", epoch {node.epochs_done}/{node.epochs_total}" if node.epochs_total else f", epoch {node.epochs_done}"
