"""Who may read which parameters here: results are for all participants, a contribution only for those who merge it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from services.identity.identity import PeerIdentity
from services.rpc.swarm_pb2 import RoundState
from services.runtime.signals import ChangeSignal
from services.sl.view import CheckInEntry, View

# A model up to this size is merged by its leader alone: sharing the merge costs more than it saves.
SHARED_FROM_BYTES = 4 * 1024 * 1024

# A reader's SN may know before this node's SN that the round is closed, or who leads it now.
CATCH_UP_S = 10.0

REFUSAL = (
    "a contribution is for the leader and the mergers of its round, and this node does not know you as one of them"
)


@dataclass(frozen=True)
class Readers:
    """``view()``: the training, None before this node is enrolled. ``results()``: digests of merged models.

    ``changed`` is notified when answers may have changed. The methods may be called from any thread.
    """

    view: Callable[[], View | None]
    results: Callable[[], Collection[str]]
    changed: ChangeSignal

    def seats(self, peer: PeerIdentity) -> int:
        """How many participants share this peer's certificate: the peer may be any of them."""
        view = self.view()
        members = view.members if view is not None else ()
        return sum(peer.may_act_as(member.name, *member.keys) for member in members)

    def may_read(self, peer: PeerIdentity, digest: str) -> bool:
        """Whether ``peer``, a participant, may read more of these parameters than the header, which holds no values."""
        view = self.view()
        if view is None:
            return False
        merges = any(
            member is not None and peer.may_act_as(member.name, *member.keys)
            for entry in view.check_ins
            if entry.digest == digest
            for member in map(view.member, mergers_of(view, entry))
        )
        return merges or digest in self.results()


def mergers_of(view: View, entry: CheckInEntry) -> frozenset[str]:
    """Names of the nodes that need this contribution for the running merge."""
    if view.phase != RoundState.MERGE:
        return frozenset()
    if entry.size <= SHARED_FROM_BYTES:
        return frozenset({view.leader})
    checked_in = (view.member(other.name) for other in view.check_ins)
    return frozenset({view.leader, *(member.name for member in checked_in if member is not None and member.may_lead)})
