"""A node's part in the result of a round, and when its trained parameters are merged."""

from services.sl.round.states import EnrolledNode, Part
from services.sl.view import AcceptedResult, Exclusion


def may_come_late(node: EnrolledNode, tried: int) -> bool:
    """Whether parameters trained from an older result are merged in the next round: not if they may have been merged
    already (``tried``: the round of a refused check-in), and not if nothing new was trained.
    """
    view, last = node.view, node.view.last
    if last is None or view.complete or not node.base or node.offer is None or node.offer.again:
        return False
    return not tried or (last.round == tried and node.name not in last.merged)


def part_in(node: EnrolledNode, result: AcceptedResult, checked_in_to: int, earlier: bool) -> Part:
    """A node's part in ``result``. ``earlier``: its check-in is from before it was restarted."""
    mine = checked_in_to == result.round and not earlier
    excluded = next((entry for entry in result.left_out if mine and entry.name == node.name), None)
    if mine and node.name in result.merged:
        late = max(0, result.round - 1 - node.base) if node.base else 0
        what = f"what this node trained from round {node.base} on, with 1/{1 + late} of its weight"
        return Part(True, f"round {result.round} holds {what}" if late else "", late=late)
    if excluded is not None:
        return left_out(result.round, excluded)
    if node.name in result.merged:
        return Part(
            False, f"round {result.round} was merged with what this node had checked in before it was started again"
        )
    return Part(False, f"round {result.round} was merged without this node, which goes on from its result")


def left_out(round_number: int, excluded: Exclusion) -> Part:
    """The part of a node whose parameters the leader could not use."""
    note = f"left out of round {round_number}: {excluded.reason}"
    return Part(False, note, left_out=True, not_finite=excluded.not_finite)


def cut_off(result: AcceptedResult) -> str:
    """Why training is over for a node that has not finished."""
    if result.stopped_early:
        best, patience = result.best_round, result.stopped_early
        return f"for {patience} rounds the mean metric has not been better than in round {best}"
    done = ", ".join(sorted(result.merged))
    return f"all others had finished ({done}), and this node was in none of the last rounds"
