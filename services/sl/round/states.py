"""Where a node can be in a round, in the order of a round."""

from dataclasses import dataclass, replace
from typing import Self

from services import errors
from services.errors import SwarmError
from services.rpc.swarm_pb2 import RoundState
from services.sl.round.events import Offer, SessionOpened
from services.sl.view import AcceptedResult, Model, View


@dataclass(frozen=True)
class HeldModel:
    """The merged model that ML got last, and the round it is the result of."""

    round: int
    model: Model


@dataclass(frozen=True)
class EnrolledNode:
    """What a node carries through all states once it is enrolled. ``offer``: what ML waits for an answer to.

    ``rejoining``: the swarm took this node for dead, and it is enrolling again.
    """

    opened: SessionOpened
    view: View
    held: HeldModel | None = None
    offer: Offer | None = None
    rejoining: bool = False

    @property
    def name(self) -> str:
        return self.opened.node

    @property
    def base(self) -> int:
        """The round whose result ML trains from; 0 before the first."""
        return self.held.round if self.held else 0

    def seeing(self, view: View, enrolled: bool) -> Self:
        """With a newer view, if it is newer; ``enrolled``: it is the answer to an enrolment."""
        newest = self.view if view.older_than(self.view) else view
        me = newest.member(self.name)
        dead = me is not None and not me.active
        rejoining = not newest.complete and (dead or (self.rejoining and not enrolled))
        return replace(self, view=newest, rejoining=rejoining)

    def enters(self) -> tuple[Model, int] | None:
        """Parameters and weight that it checks in with; None where ML offered nothing.

        The first check-in after the end of local training brings what was trained last, with its weight. Later ones
        bring that again (snapshot), or the last merged model (active; inactive, where it weighs nothing).
        """
        offer = self.offer
        if offer is None:
            return None
        model = self.held.model if offer.again and offer.mode != "snapshot" and self.held else offer.model
        weight = offer.examples if self.opened.weighting == "samples" else self.opened.weight
        return model, 0 if offer.again and offer.mode == "inactive" else weight


@dataclass(frozen=True)
class Part:
    """What a node has in a result. ``note``: in words, where that is not all. ``left_out``: the leader could not use
    what it had checked in; ``not_finite``: for NaN or infinity in it. ``late``: rounds that were merged without it
    before, whose work of it is in this one.
    """

    contributed: bool
    note: str
    left_out: bool = False
    late: int = 0
    not_finite: bool = False


@dataclass(frozen=True)
class SLState:
    """Base of all. ``node`` is None before it is enrolled and after the end."""

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

    ``watched``: round and term of a merge that has in it what this node checked in before it was started again.
    """

    prefetched: bool = False
    watched: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class CheckingIn(WithNode):
    """``term``: of the view in which it was decided."""

    round: int
    term: int = 0


@dataclass(frozen=True)
class WaitingForRound(WithNode):
    """The round takes no check-in from here; ``refusal`` says why.

    ``term``: a round that is closed and opened again since has a later one. ``tried``: the round of a check-in that
    was refused, 0 where there was none; it may have been taken before a connection broke, and been refused since.
    """

    refusal: SwarmError
    term: int = 0
    tried: int = 0

    @property
    def explained(self) -> bool:
        """Whether the view already shows what the check-in was refused for."""
        view = self.node.view
        match self.refusal:
            case errors.StaleRound() as refusal:
                return view.round >= refusal.current
            case errors.Behind() as refusal:
                return view.accepted >= refusal.last_accepted
            case errors.TrainingComplete():
                return view.complete
            case errors.RoundClosed() as refusal:
                # Merged, or open again; the view may still show it open for the first time.
                reopened = view.phase == RoundState.CHECKIN and view.term > self.term
                return view.accepted >= refusal.round or reopened
        return view.complete or view.phase == RoundState.CHECKIN


@dataclass(frozen=True)
class DiagnosingMismatch(WithNode):
    """The model differs from the others'; in which tensor is being found out."""


@dataclass(frozen=True)
class Awaiting(WithNode):
    """Checked in to ``round``, in ``block``: a view of that block or a later one shows it, unless it was lost since.

    ``watched_term``: whose leader is being watched. ``refused_term``: one that this node led, and does no more.
    ``earlier``: what is checked in are the parameters that it had before it was started again.
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
    """The outcome of the merge is on its way to the chain."""


@dataclass(frozen=True)
class Fetching(WithNode):
    """``part``: what this node has in ``result``."""

    result: AcceptedResult
    part: Part


@dataclass(frozen=True)
class Finishing(WithNode):
    """ML has the final model; this node serves it until the others have it too, or long enough."""

    ml_done: bool = False
    serving_over: bool = False


@dataclass(frozen=True)
class Ended(SLState):
    error: SwarmError | None


def holds_up_all_others(state: SLState) -> bool:
    """Whether everybody else has checked in to the running round, and waits for what ML trains here."""
    if not isinstance(state, Training):
        return False
    view = state.node.view
    return view.phase == RoundState.CHECKIN and bool(view.check_ins) and view.awaited == (state.node.name,)


def waits_for_the_swarm(state: SLState) -> bool:
    """Whether the node cannot go on without it: neither while ML trains, nor once it has all that it gets."""
    return not isinstance(state, Training | Finishing | Ended)
