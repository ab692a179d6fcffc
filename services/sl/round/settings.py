"""How a node behaves: the settings of its rounds as plain data."""

from dataclasses import dataclass

from services.sl.transfer.peers import STALL_S


@dataclass(frozen=True)
class RoundSettings:
    """How this node behaves; see the settings of the same names."""

    may_lead: bool = True
    quorum_wait_s: float = 30.0
    leader_timeout_s: float = 60.0
    longest_merge_s: float | None = None
    sn_patience_s: float = 300.0
    keep_serving_s: float = 60.0

    @property
    def stall_s(self) -> float:
        """Seconds without a byte after which a peer is given up; short enough that a leader gives up on a peer before
        the others give up on the leader.
        """
        return min(STALL_S, self.leader_timeout_s / 3)
