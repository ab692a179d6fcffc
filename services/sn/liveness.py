"""Which participants are silent: those that take part but do not watch."""

from collections import Counter
from dataclasses import dataclass, field

from services.rpc.swarm_pb2 import RoundState
from services.sn.training import TrainingView

LOST = "lost"  # the reason on the chain why such a node left


@dataclass
class Streams:
    """Open Watch streams by the name of the node that holds them."""

    count: Counter[str] = field(default_factory=Counter)

    def opened(self, name: str) -> None:
        self.count[name] += 1

    def closed(self, name: str) -> None:
        self.count[name] -= 1
        if self.count[name] <= 0:
            del self.count[name]


def absent(view: TrainingView, streams: Streams) -> frozenset[str]:
    """Active participants without a stream, while there is a round in which others would wait for them."""
    if view.state not in (RoundState.CHECKIN, RoundState.MERGE):
        return frozenset()
    return frozenset(name for name in view.active if name not in streams.count)
