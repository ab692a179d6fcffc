"""A result is accepted only if a node other than its leader has signed that it holds a copy: otherwise the loss of one
node could end a training.
"""

from services.errors import NoSecondCopy
from services.identity.peers import TrustBundle
from services.rpc import swarm_pb2 as pb
from services.rpc.result_copy import ROLE, CopyClaim, may_hold
from services.sn.membership import Membership
from services.sn.training import TrainingView


def require_copy(request: pb.PublishRequest, view: TrainingView, membership: Membership, trust: TrustBundle) -> None:
    """``request``: from the leader of the merge under way in ``view``. Raises NoSecondCopy.

    If the last accepted result is published again, others hold it already.
    """
    if view.last_result is not None and request.digest == view.last_result.digest:
        return
    left_out = {entry.name for entry in request.left_out}
    holders = may_hold(view.leader, list(view.check_ins), left_out, view.active)
    if not holders:
        return
    holder = request.copy.holder
    member = membership.members.get((ROLE, holder))
    if holder not in holders or member is None:
        problem = f"{holder} is none of those who could" if holder else "nobody has signed for it"
        raise NoSecondCopy(round=view.round, problem=problem)
    claim = CopyClaim(view.location, view.round, view.term, request.digest.hex(), holder)
    claim.check(request.copy, member.keys, trust)
