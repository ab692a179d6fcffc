"""What a training in the swarm came to, round by round, as the SN tells it."""

from collections.abc import Callable
from typing import Any

from services.local.view import SwarmView
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.measures import measure, shown
from services.rpc.wording import headline

SHOWN_EVERY = 10  # rounds


class History(SwarmView):
    """Keeps every round and report, and prints a line now and then."""

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show = show
        self._shown_up_to = 0
        self._rounds: dict[int, dict[str, Any]] = {}
        self.last = pb.TrainingStatus()
        self.chain = ""

    def say(self, line: str) -> None:
        self._show(f"  {line}")

    def connected(self, client: SNClient, chain: str) -> None:
        self.chain = chain

    def update(self, status: pb.TrainingStatus) -> None:
        self.last = status
        result = status.last_result
        if result.round:
            self._round(result.round).update(
                leader=result.leader, digest=result.digest.hex(), merged=sorted(result.merged)
            )
        for node in status.participants:
            if node.report_round:
                reports = self._round(node.report_round)["reports"]
                reports[node.name] = {
                    "loss": measure(node, "loss"),
                    "accuracy": measure(node, "metric"),
                }
        if result.round >= self._shown_up_to + SHOWN_EVERY or status.state == pb.RoundState.COMPLETE:
            self._show_progress(status)

    def close(self) -> None:
        """Everything is kept."""

    @property
    def rounds(self) -> int:
        """How many rounds were accepted."""
        return int(self.last.last_result.round - self.last.first_round + 1)

    @property
    def chain_digest(self) -> str:
        return self.last.last_result.digest.hex()

    def as_data(self) -> list[dict[str, Any]]:
        """One entry per round: leader, digest, who was merged, loss and accuracy of each node that reported."""
        return [{"round": number, **self._rounds[number]} for number in sorted(self._rounds)]

    def _round(self, number: int) -> dict[str, Any]:
        return self._rounds.setdefault(number, {"reports": {}})

    def _show_progress(self, status: pb.TrainingStatus) -> None:
        if status.last_result.round == self._shown_up_to:
            return
        self._shown_up_to = status.last_result.round
        losses = ", ".join(f"{node.name} {shown(measure(node, 'loss'), '.3f')}" for node in status.participants)
        self.say(f"{headline(status)}; validation loss {losses}")
