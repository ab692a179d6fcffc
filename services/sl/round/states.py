"""The states of a node in a round, in the order of a round."""

from dataclasses import dataclass, replace
from typing import Self

from services import errors
from services.errors import SwarmError
from services.rpc.swarm_pb2 import RoundState
from services.sl.round.events import Offer, SessionOpened
from services.sl.view import AcceptedResult, Model, View


@dataclass(frozen=True)
class HeldModel:
    """The merged model that ML got last, and the round that produced it."""

    round: int
    model: Model


@dataclass(frozen=True)
class EnrolledNode:
    """What a node carries through all states once it is enrolled. ``offer``: the parameters for which ML awaits an
    answer.

    ``rejoining``: the swarm took this node for dead, and it is enrolling again. ``doubted``: a leader has left its
    parameters out of the very first round.
    """

    opened: SessionOpened
    view: View
    held: HeldModel | None = None
    offer: Offer | None = None
    rejoining: bool = False
    doubted: bool = False

    @property
    def name(self) -> str:
        return self.opened.node

    @property
    def base(self) -> int:
        """The round from whose result ML trains; 0 before the first."""
        return self.held.round if self.held else 0

    def seeing(self, view: View, enrolled: bool) -> Self:
        """The same with ``view``, if that is newer. ``enrolled``: whether it answers an enrolment."""
        newest = self.view if view.older_than(self.view) else view
        me = newest.member(self.name)
        dead = me is not None and not me.active
        rejoining = not newest.complete and (dead or (self.rejoining and not enrolled))
        return replace(self, view=newest, rejoining=rejoining)

    def enters(self) -> tuple[Model, int] | None:
        """Parameters and weight for a check-in; None if ML offered nothing.

        The first check-in after the end of local training contributes the parameters trained last, with their weight.
        Later ones contribute these again (snapshot) or the last merged model (active, or inactive with weight 0).
        """
        offer = self.offer
        if offer is None:
            return None
        model = self.held.model if offer.again and offer.mode != "snapshot" and self.held else offer.model
        weight = offer.examples if self.opened.weighting == "samples" else self.opened.weight
        return model, 0 if offer.again and offer.mode == "inactive" else weight


@dataclass(frozen=True)
class Part:
    """A node's part in a result. ``note``: explains it, if there is more to say. ``left_out``: the leader could not use
    its parameters; ``not_finite``: because of NaN or infinity in them. ``late``: rounds merged without it before, whose
    training is included in this one.
    """

    contributed: bool
    note: str
    left_out: bool = False
    late: int = 0
    not_finite: bool = False


@dataclass(frozen=True)
class SLState:
    """Base class. ``node_or_none`` is None before the node is enrolled and after the end."""

    @property
    def node_or_none(self) -> EnrolledNode | None:
        return None


@dataclass(frozen=True)
class Unopened(SLState):
    """ML has not opened its session."""


@dataclass(frozen=True)
class Enrolling(SLState):
    opened: SessionOpened


@dataclass(frozen=True)
class WithNode(SLState):
    node: EnrolledNode

    @property
    def node_or_none(self) -> EnrolledNode | None:
        return self.node


@dataclass(frozen=True)
class Training(WithNode):
    """ML trains. ``prefetched``: the final model of a training that completed meanwhile is being fetched.

    ``watched``: round and term of a merge that includes a check-in of this node from before its restart.
    """

    prefetched: bool = False
    watched: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class CheckingIn(WithNode):
    """``term``: that of the view in which the check-in was decided."""

    round: int
    term: int = 0


@dataclass(frozen=True)
class WaitingForRound(WithNode):
    """The round accepts no check-in from this node; ``refusal`` says why.

    ``term``: if the round was closed and reopened since, its term is later. ``tried``: the round of a refused check-in,
    0 if none; an earlier call may have been accepted before its connection broke, and a repeated one refused.
    """

    refusal: SwarmError
    term: int = 0
    tried: int = 0

    @property
    def explained(self) -> bool:
        """Whether the view already shows the reason of the refusal."""
        view = self.node.view
        match self.refusal:
            case errors.StaleRound() as refusal:
                return view.round >= refusal.current
            case errors.Behind() as refusal:
                return view.accepted >= refusal.last_accepted
            case errors.TrainingComplete():
                return view.complete
            case errors.RoundClosed() as refusal:
                # Merged, or reopened; the view may still show it open for the first time.
                reopened = view.phase == RoundState.CHECKIN and view.term > self.term
                return view.accepted >= refusal.round or reopened
        return view.complete or view.phase == RoundState.CHECKIN


@dataclass(frozen=True)
class DiagnosingMismatch(WithNode):
    """The model differs from the others'; this node is finding out in which tensor."""


@dataclass(frozen=True)
class Awaiting(WithNode):
    """Checked in to ``round``, in ``block``: views of that block and later ones show the check-in, unless it was lost.

    ``watched_term``: the term whose leader is being watched. ``refused_term``: a term that this node led and no longer
    leads. ``earlier``: the check-in holds the parameters from before this node was restarted.
    """

    round: int
    block: int
    watched_term: int = 0
    refused_term: int = 0
    earlier: bool = False


@dataclass(frozen=True)
class Merging(Awaiting):
    """This node leads ``term`` and merges."""

    term: int = 0


@dataclass(frozen=True)
class Publishing(Merging):
    """The outcome of the merge is being sent to the chain."""


@dataclass(frozen=True)
class Fetching(WithNode):
    """``part``: this node's part in ``result``."""

    result: AcceptedResult
    part: Part


@dataclass(frozen=True)
class Finishing(WithNode):
    """ML has the final model; this node serves it until the others have it or the serving time is over."""

    ml_done: bool = False
    serving_over: bool = False


@dataclass(frozen=True)
class Ended(SLState):
    error: SwarmError | None


def holds_up_all_others(state: SLState) -> bool:
    """Whether all other nodes have checked in to the running round and wait for this node's ML."""
    if not isinstance(state, Training):
        return False
    view = state.node.view
    return view.phase == RoundState.CHECKIN and bool(view.check_ins) and view.awaited == (state.node.name,)


def waits_for_the_swarm(state: SLState) -> bool:
    """Whether the node needs an SN to continue; it does not while ML trains or once ML has the final model."""
    return not isinstance(state, Training | Finishing | Ended)
