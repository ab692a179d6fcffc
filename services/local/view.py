"""Shows a local swarm: as plain lines, and with the words that they share with the table on a terminal."""

import sys
from typing import Protocol, TextIO

from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.measures import measure, shown
from services.rpc.wording import describe_result, doing


class SwarmView(Protocol):
    """Shows how a local swarm is doing."""

    def say(self, line: str) -> None:
        """Shows a line about something that has happened."""

    def connected(self, client: SNClient, chain: str) -> None:
        """The SN answers and runs this chain; ``client``, the administrator's, may be used for more questions."""

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
        """Nothing to show: the states say enough."""

    def update(self, status: pb.TrainingStatus) -> None:
        result = status.last_result
        if result.round > self._accepted:
            self._accepted = result.round
            self.say(describe_result(result))
        for node in status.participants:
            report = (node.name, node.report_round)
            if node.report_round and report not in self._reported:
                self._reported.add(report)
                loss, metric = (shown(measure(node, name), ".4g") for name in ("loss", "metric"))
                self.say(f"round {node.report_round}: {node.name} loss {loss} metric {metric}{_epochs(node)}")

    def close(self) -> None:
        """Nothing to do."""


def rows(status: pb.TrainingStatus) -> list[tuple[str, str, str, str, str, str]]:
    """One row per participant: node, last reported round, what it is doing, loss, metric, epochs."""
    return [
        (
            node.name,
            str(node.report_round or "-"),
            doing(node, status),
            shown(measure(node, "loss"), ".4f"),
            shown(measure(node, "metric"), ".4f"),
            _epochs(node).removeprefix(", epoch ") or "-",
        )
        for node in status.participants
    ]


def _epochs(node: pb.Participant) -> str:
    if not node.epochs_done and not node.epochs_total:
        return ""
    return f", epoch {node.epochs_done}/{node.epochs_total}" if node.epochs_total else f", epoch {node.epochs_done}"
