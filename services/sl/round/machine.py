"""The round of one node, as a state machine: what it decides, without network, clock, thread or file.

``step(state, event)`` gives the next state and the actions to perform; the runner performs them and feeds their outcome
back as events. Time is an event. TRANSITIONS lists the allowed pairs of state and event, and the states to which each
may lead; UnlistedPair and UnlistedTarget are raised for others.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from services import errors
from services.errors import LeftOutOfRound, MLGone, ModelNotFinite, SLStopped, SwarmError
from services.rpc.swarm_pb2 import RoundState
from services.sl.round import actions as do
from services.sl.round import events as on
from services.sl.round.actions import Action
from services.sl.round.contribution import cut_off, left_out, may_come_late, part_in
from services.sl.round.events import RoundEvent
from services.sl.round.states import (
    Awaiting,
    CheckingIn,
    DiagnosingMismatch,
    Ended,
    EnrolledNode,
    Enrolling,
    Fetching,
    Finishing,
    HeldModel,
    Merging,
    Publishing,
    SLState,
    Training,
    Unopened,
    WaitingForRound,
    WithNode,
)
from services.sl.view import AcceptedResult, Exclusion

Step = tuple[SLState, tuple[Action, ...]]
Targets = tuple[type[SLState], ...]

# States to which a decision about the current view may lead.
_DECIDED: Targets = (Training, CheckingIn, WaitingForRound, Awaiting, Merging, Fetching, Ended)


def _row(state: type[SLState], listed: Mapping[type[RoundEvent], Targets]) -> Mapping[type[RoundEvent], Targets]:
    """Adds what may happen at any time. A timer may fire when its cause is over; it then changes nothing."""
    at_any_time = {on.Failed: (Ended,), on.StopRequested: (Ended,), on.MLEnded: (Ended,), on.LeaderSilent: (state,)}
    return {**at_any_time, **listed}


def _with_views(
    state: type[SLState], targets: Targets, listed: Mapping[type[RoundEvent], Targets]
) -> Mapping[type[RoundEvent], Targets]:
    """``targets``: the states to which a newer view may lead, whether from the training or from an enrolment."""
    return _row(state, {on.StatusChanged: targets, on.EnrolmentAccepted: targets, **listed})


# For each state the events that may happen, and the states to which they may lead, in the order of a round.
TRANSITIONS: Mapping[type[SLState], Mapping[type[RoundEvent], Targets]] = {
    Unopened: _row(Unopened, {on.SessionOpened: (Enrolling,)}),
    Enrolling: _row(Enrolling, {on.EnrolmentAccepted: (Training,)}),
    Training: _with_views(
        Training,
        (Training,),
        {on.ParametersOffered: _DECIDED, on.ModelReported: (Training,), on.SessionClosed: (Ended,)},
    ),
    CheckingIn: _with_views(
        CheckingIn,
        (CheckingIn,),
        {on.CheckInAccepted: _DECIDED, on.CheckInRefused: (DiagnosingMismatch, *_DECIDED)},
    ),
    WaitingForRound: _with_views(WaitingForRound, _DECIDED, {}),
    DiagnosingMismatch: _with_views(DiagnosingMismatch, (DiagnosingMismatch,), {}),
    Awaiting: _with_views(Awaiting, _DECIDED, {}),
    Merging: _with_views(Merging, _DECIDED, {on.MergeDone: (Publishing,), on.TooFew: (Publishing,)}),
    Publishing: _with_views(Publishing, (Publishing,), {on.Published: _DECIDED, on.PublishRefused: _DECIDED}),
    Fetching: _with_views(
        Fetching,
        (Fetching,),
        {on.Fetched: (DiagnosingMismatch, Finishing, *_DECIDED), on.FetchFailed: (Fetching, Ended)},
    ),
    Finishing: _with_views(
        Finishing,
        (Finishing, Ended),
        {
            on.ModelReported: (Finishing,),
            on.SessionClosed: (Finishing, Ended),
            on.ServingOver: (Finishing, Ended),
            on.MLEnded: (Finishing, Ended),
        },
    ),
    Ended: {},
}

_OVERTAKEN = (errors.StaleRound, errors.RoundClosed, errors.Behind, errors.TrainingComplete)
_DEPOSED = (errors.StaleRound, errors.StaleTerm, errors.NotTheLeader, errors.RoundNotClosed, errors.TrainingComplete)


class UnlistedPair(Exception):
    """An event that has no meaning in the state in which it arrived; names both."""

    def __init__(self, state: SLState, event: RoundEvent) -> None:
        super().__init__(f"{type(event).__name__} in the state {type(state).__name__}")
        self.state = state
        self.event = event


class UnlistedTarget(Exception):
    """A step to a state that TRANSITIONS does not list; names the event and both states."""

    def __init__(self, state: SLState, event: RoundEvent, following: SLState) -> None:
        names = (type(it).__name__ for it in (event, state, following))
        super().__init__("{} in the state {} leads to {}".format(*names))


def step(state: SLState, event: RoundEvent) -> Step:
    """The next state, and what to do now. Raises UnlistedPair, UnlistedTarget."""
    targets = TRANSITIONS[type(state)].get(type(event))
    if targets is None:
        raise UnlistedPair(state, event)
    following, actions = _decided(state, event)
    if type(following) not in targets:
        raise UnlistedTarget(state, event, following)
    return following, actions


def _decided(state: SLState, event: RoundEvent) -> Step:
    match event:
        case on.Failed(error):
            return _fail(state, error)
        case on.StopRequested(node):
            _, actions = _fail(state, SLStopped(node=node))
            return Ended(None), actions
        case on.MLEnded():
            return _without_ml(state, event)
        case on.LeaderSilent():
            return _vote(state, event)
        case on.StatusChanged() | on.EnrolmentAccepted() if isinstance(state, WithNode):
            return _look(state, event)
    return _BY_STATE[type(state)](state, event)


def needed(state: SLState) -> frozenset[str]:
    """Digests of the parameters that this node must keep to serve."""
    node = state.node_or_none
    if node is None:
        return frozenset()
    offered = {node.offer.model.digest} if node.offer else set()
    mine = node.view.checked_in(node.name)
    return results(state) | offered | ({mine.digest} if mine else set())


def results(state: SLState) -> frozenset[str]:
    """Digests of the accepted results among those that ``needed`` gives."""
    node = state.node_or_none
    if node is None:
        return frozenset()
    held = {node.held.model.digest} if node.held else set()
    return frozenset(held | ({node.view.last.digest} if node.view.last else set()))


# --- one function per state, in the order of a round -------------------------------------------------------


def _unopened(_state: Unopened, event: on.SessionOpened) -> Step:
    return Enrolling(event), (do.Enrol(event),)


def _enrolling(state: Enrolling, event: on.EnrolmentAccepted) -> Step:
    answer = do.AnswerOpen(event.view.round, late=event.view.last is not None)
    following, actions = _while_training(Training(EnrolledNode(state.opened, event.view)))
    return following, (answer, *actions)


def _training(state: Training, event: on.ParametersOffered | on.ModelReported | on.SessionClosed) -> Step:
    """ML trains and waits for no answer."""
    match event:
        case on.ParametersOffered(offer):
            return _turn(replace(state.node, offer=offer))
        case on.ModelReported():
            return state, (do.SendReport(event),)
        case on.SessionClosed():
            return Ended(None), (do.Leave("its ML program ended the session"),)


def _checking_in(state: CheckingIn, event: on.CheckInAccepted | on.CheckInRefused) -> Step:
    node = state.node
    if isinstance(event, on.CheckInAccepted):
        return _follow(Awaiting(node, state.round, event.block))
    match event.error:
        case errors.ModelDiffers() as refusal if node.offer:
            agreed_by = refusal.agreed_by or node.view.layout_by
            return DiagnosingMismatch(node), (do.DiagnoseMismatch(agreed_by, node.offer.model),)
        case errors.AlreadyCheckedIn():  # by this node before it was restarted: that check-in stands
            return _follow(Awaiting(node, state.round, node.view.block + 1, earlier=True))
        case (errors.NotEnrolled() | errors.NotAMember()) as refusal if not node.view.complete:
            return WaitingForRound(replace(node, rejoining=True), refusal), (do.Enrol(node.opened, again=True),)
        case error if isinstance(error, (*_OVERTAKEN, errors.NotEnrolled, errors.NotAMember)):
            return _locked_out(WaitingForRound(node, error, state.term, tried=state.round))
        case error:
            return _fail(state, error)


def _locked_out(state: WaitingForRound) -> Step:
    """Waits until the view shows why the check-in was refused; then the node can decide."""
    node = state.node
    inside = node.view.phase == RoundState.MERGE and node.view.checked_in(node.name) is not None
    if not node.rejoining and (inside or state.explained):
        return _turn(node, state.tried)
    return state, ()


def _follow(state: Awaiting) -> Step:
    """Checked in: waits for the other check-ins, then for the merge, then for the result."""
    node, view = state.node, state.node.view
    if view.last is not None and view.last.round >= state.round:
        return _take(node, view.last, checked_in_to=state.round, earlier=state.earlier)
    if view.round != state.round or node.rejoining:
        return state, ()
    if view.checked_in(node.name) is None and view.block >= state.block:
        excluded = view.excluded(node.name)
        # If nobody left it out, its check-in was dropped while this node was taken for dead.
        return _turn(node) if excluded is None or state.earlier else _left_out(state, excluded)
    if view.phase == RoundState.MERGE:
        return _merge_phase(state)
    return state, (do.NotifyML(view.waiting),)


def _merge_phase(state: Awaiting) -> Step:
    node, view = state.node, state.node.view
    if view.leader == node.name:
        if view.term == state.refused_term:
            return state, ()
        return Merging(**vars(state), term=view.term), (do.StartMerge(view, node.held),)
    if view.term == state.watched_term:
        return state, ()
    text = f"round {view.round} is being merged by {view.leader}"
    return replace(state, watched_term=view.term), (do.NotifyML(text), do.ArmLeaderTimer(view.round, view.term))


def _vote(state: SLState, event: on.LeaderSilent) -> Step:
    if type(state) is not Training and type(state) is not Awaiting:
        return state, ()
    view = state.node.view
    if (event.round, event.term, RoundState.MERGE) != (view.round, view.term, view.phase):
        return state, ()
    # Goes on watching: if the vote is lost or too few voted, it is repeated after another such silence.
    return state, (do.VoteOut(event.round, event.term), do.ArmLeaderTimer(event.round, event.term))


def _merging(state: Merging, event: on.MergeDone | on.TooFew) -> Step:
    """This node leads. Its result is accepted only while its term lasts."""
    publishing = Publishing(**vars(state))
    if isinstance(event, on.TooFew):
        return publishing, (do.Reopen(state.round, state.term, event.left_out),)
    return publishing, (do.Publish(state.round, state.term, event.model, event.left_out, event.copy),)


def _publishing(state: Publishing, event: on.Published | on.PublishRefused) -> Step:
    # If refused, another node leads by now, or this very result was accepted before a connection broke.
    if isinstance(event, on.PublishRefused) and not isinstance(event.error, _DEPOSED):
        return _fail(state, event.error)
    return _follow(_follower(state))


def _fetching(state: Fetching, event: on.Fetched | on.FetchFailed) -> Step:
    node, last = state.node, state.node.view.last
    newer = last if last is not None and last.round > state.result.round else None
    if isinstance(event, on.FetchFailed):
        return _fail(state, event.error) if newer is None else _take(node, newer)
    mine = node.offer.model if node.offer else event.model
    if mine.layout != event.model.layout:  # a newcomer, whose parameters nobody has compared yet
        return DiagnosingMismatch(node), (do.DiagnoseMismatch(node.view.layout_by, mine, event.model),)
    node = replace(node, held=HeldModel(state.result.round, event.model))
    if newer is not None and node.view.complete:  # the final result, with which every node must end
        return _take(node, newer)
    return _hand_over(replace(state, node=node))


def _finishing(state: Finishing, event: on.ModelReported | on.SessionClosed | on.ServingOver) -> Step:
    """The final model was handed over; other nodes may still fetch it from here."""
    match event:
        case on.ModelReported():
            return state, (do.SendReport(event),)
        case on.SessionClosed():
            return _end_when_done(replace(state, ml_done=True))
        case on.ServingOver():
            return _end_when_done(replace(state, serving_over=True))


# --- a newer view -------------------------------------------------------------------------------------------


def _look(state: WithNode, event: on.StatusChanged | on.EnrolmentAccepted) -> Step:
    """Most states only store the view, some act on it. A node that was taken for dead enrols again."""
    enrolled = isinstance(event, on.EnrolmentAccepted)
    node = state.node.seeing(event.view, enrolled)
    following, actions = _act_on_view(replace(state, node=node))
    if node.rejoining and (enrolled or not state.node.rejoining) and not isinstance(state, Finishing):
        actions = (do.Enrol(node.opened, again=True), *actions)
    return following, actions


def _act_on_view(state: WithNode) -> Step:
    view = state.node.view
    match state:
        case Training():
            return _while_training(state)
        case WaitingForRound():
            return _locked_out(state)
        case Publishing():
            return state, ()
        case Merging():
            if (view.phase, view.round, view.term) == (RoundState.MERGE, state.round, state.term):
                return state, ()
            following, actions = _follow(_follower(state))
            return following, (do.CancelMerge(), *actions)
        case Awaiting():
            return _follow(state)
        case Finishing():
            return _end_when_done(state)
    return state, ()


def _while_training(state: Training) -> Step:
    """A check-in from before this node was restarted may be part of a merge, which this node must not lead."""
    node, view = state.node, state.node.view
    if view.complete and view.last is not None and not state.prefetched:
        return replace(state, prefetched=True), (do.Fetch(view.last, ahead=True),)
    merge = (view.round, view.term)
    if view.phase != RoundState.MERGE or view.checked_in(node.name) is None or merge == state.watched:
        return state, ()
    leads = view.leader == node.name
    action = do.Leave("it was started again while it led") if leads else do.ArmLeaderTimer(*merge)
    return replace(state, watched=merge), (action,)


# --- decisions that several states share ----------------------------------------------------------------------


def _turn(node: EnrolledNode, tried: int = 0) -> Step:
    """Decides what to do with the parameters that ML handed over. ``tried``: see WaitingForRound."""
    view, entry = node.view, node.enters()
    if node.offer is None or entry is None:
        return Training(node), ()
    behind = view.last is not None and (view.last.round > node.base or view.complete)
    if view.last is not None and behind and not may_come_late(node, tried):
        return _take(node, view.last, checked_in_to=tried)
    mine = view.checked_in(node.name)
    if view.phase == RoundState.CHECKIN and mine is None:
        call = do.SendCheckIn(view.round, node.base, *entry, node.offer.finished)
        return CheckingIn(node, view.round, view.term), (call,)
    if mine is not None:
        return _follow(Awaiting(node, view.round, block=0, earlier=mine.digest != entry[0].digest))
    goes_on = "what it has trained comes into the next" if node.base else "it goes on from the result"
    text = f"round {view.round} is being merged without this node; {goes_on}"
    return WaitingForRound(node, errors.RoundClosed(round=view.round), view.term - 1), (do.NotifyML(text),)


def _take(node: EnrolledNode, result: AcceptedResult, checked_in_to: int = 0, earlier: bool = False) -> Step:
    """Fetches a result. ``checked_in_to``: the round to which this node checked in, 0 if none."""
    return Fetching(node, result, part_in(node, result, checked_in_to, earlier)), (do.Fetch(result),)


def _left_out(state: Awaiting, excluded: Exclusion) -> Step:
    """The round was opened again without this node. In the very first round there is no result to go on from: the next
    leader decides too, since the first one may have lied.
    """
    node, last = state.node, state.node.view.last
    if last is None and not node.doubted:
        following, actions = _turn(replace(node, doubted=True))
        text = f"left out of round {state.round}: {excluded.reason}; trying again with the next leader"
        return following, (do.NotifyML(text), *actions)
    if last is None:
        kind = ModelNotFinite if excluded.not_finite else LeftOutOfRound
        return _fail(state, kind(node=node.name, round=state.round, reason=excluded.reason))
    return Fetching(node, last, left_out(state.round, excluded)), (do.Fetch(last),)


def _hand_over(state: Fetching) -> Step:
    """Gives the merged model to ML; a node whose ML has finished takes part in further rounds without it."""
    node, offer, over = state.node, state.node.offer, state.node.view.complete
    if offer is None or node.held is None:
        raise ValueError("a result was fetched that nobody waits for")
    remember = do.SaveProgress(node.held, offer.epochs_done)
    if offer.finished and not over:
        # Unusable parameters would be left out in every round: from now on this node only counts as finished.
        mode = "inactive" if state.part.left_out else offer.mode
        following, actions = _turn(replace(node, offer=replace(offer, again=True, mode=mode)))
        return following, (remember, *([do.NotifyML(state.part.note)] if state.part.note else []), *actions)
    result = state.result
    # A node that was late exchanges sooner the next time.
    interval = max(1, (result.interval or node.view.config.sync_frequency) // (1 + state.part.late))
    note = cut_off(state.result) if over and not offer.finished else state.part.note
    judged = (result.pace, result.best_round, state.part.late, state.part.not_finite)
    deliver = do.Deliver(offer.seq, node.held, state.part.contributed, note, over, interval, *judged)
    node = replace(node, offer=None)
    if not over:
        following, actions = _while_training(Training(node))
        return following, (deliver, remember, *actions)
    following, _ = _end_when_done(Finishing(node))
    return following, (deliver, remember, do.Leave("finished"), do.ArmServingTimer())


def _follower(state: Merging) -> Awaiting:
    """The same state, no longer as the leader of its term."""
    return Awaiting(state.node, state.round, state.block, state.watched_term, state.term, state.earlier)


def _end_when_done(state: Finishing) -> Step:
    """Waits also for lost nodes: one that was away when the training ended may need the result from here."""
    others = [member for member in state.node.view.members if member.name != state.node.name]
    if state.ml_done and (state.serving_over or not any(member.active or member.lost for member in others)):
        return Ended(None), ()
    return state, ()


def _without_ml(state: SLState, event: on.MLEnded) -> Step:
    if isinstance(state, Finishing):  # ML has all that it can get
        return _end_when_done(replace(state, ml_done=True))
    doing = "while it trained" if isinstance(state, Training) else "while it waited for the merge"
    if isinstance(state, Unopened):
        doing = "before it opened its session"
    error = MLGone(node=event.node, when=event.doing or doing)
    return Ended(error), (() if state.node_or_none is None else (do.Leave(_sentence(error)),))


def _fail(state: SLState, error: SwarmError) -> Step:
    if isinstance(state, Unopened | Finishing):
        return Ended(error), ()
    if isinstance(state, Enrolling):
        return Ended(error), (do.AbortML(error, opened=False),)
    return Ended(error), (do.AbortML(error, opened=True), do.Leave(_sentence(error)))


def _sentence(error: SwarmError) -> str:
    return str(error).split(". ", 1)[0]


_BY_STATE: Mapping[type[SLState], Callable[[Any, Any], Step]] = {
    Unopened: _unopened,
    Enrolling: _enrolling,
    Training: _training,
    CheckingIn: _checking_in,
    Merging: _merging,
    Publishing: _publishing,
    Fetching: _fetching,
    Finishing: _finishing,
}
