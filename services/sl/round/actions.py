"""The actions of a node, which the runner performs."""

from dataclasses import dataclass

from services.errors import SwarmError
from services.rpc.swarm_pb2 import ResultCopy
from services.sl.round.events import ModelReported, SessionOpened
from services.sl.round.states import HeldModel
from services.sl.view import AcceptedResult, Exclusion, Model, View


@dataclass(frozen=True)
class Action:
    """Base class."""


# --- answers to ML ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnswerOpen(Action):
    round: int
    late: bool


@dataclass(frozen=True)
class Deliver(Action):
    """The answer to ML's parameters ``seq``."""

    seq: int
    held: HeldModel
    contributed: bool
    note: str
    over: bool
    next_sync_interval: int
    pace: str = ""
    best_round: int = 0
    late: int = 0
    not_finite: bool = False


@dataclass(frozen=True)
class SaveProgress(Action):
    """Stores for the next start the merged model from which ML continues, and its epochs."""

    held: HeldModel
    epochs_done: int


@dataclass(frozen=True)
class NotifyML(Action):
    """Why ML waits; shown if it waits for more than a moment."""

    text: str


@dataclass(frozen=True)
class AbortML(Action):
    """``opened``: whether ML's session had been opened; if not, it is refused."""

    error: SwarmError
    opened: bool


# --- calls to the SN ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Enrol(Action):
    """Gives EnrolmentAccepted or Failed; with ``again``, nothing if the training is complete."""

    opened: SessionOpened
    again: bool = False


@dataclass(frozen=True)
class SendCheckIn(Action):
    """Gives CheckInAccepted or CheckInRefused."""

    round: int
    base: int
    model: Model
    weight: int
    finished: bool


@dataclass(frozen=True)
class Publish(Action):
    """Gives Published or PublishRefused."""

    round: int
    term: int
    model: Model
    left_out: tuple[Exclusion, ...]
    copy: ResultCopy | None = None


@dataclass(frozen=True)
class Reopen(Action):
    """Gives Published or PublishRefused."""

    round: int
    term: int
    left_out: tuple[Exclusion, ...]


@dataclass(frozen=True)
class VoteOut(Action):
    round: int
    term: int


@dataclass(frozen=True)
class SendReport(Action):
    report: ModelReported


@dataclass(frozen=True)
class Leave(Action):
    reason: str


# --- work ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StartMerge(Action):
    """Merges the check-ins of ``view``; gives MergeDone, TooFew or Failed. ``held``: the result if no check-in has
    weight.
    """

    view: View
    held: HeldModel | None


@dataclass(frozen=True)
class CancelMerge(Action):
    pass


@dataclass(frozen=True)
class Fetch(Action):
    """Gives Fetched or FetchFailed; with ``ahead``, nothing: it only makes sure that the result is here."""

    result: AcceptedResult
    ahead: bool = False


@dataclass(frozen=True)
class DiagnoseMismatch(Action):
    """Gives Failed with the tensor in which ``model`` differs from the check-in of the node ``agreed_by``. ``merged``:
    a result that this node holds and that does not fit.
    """

    agreed_by: str
    model: Model
    merged: Model | None = None


# --- time ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArmLeaderTimer(Action):
    """Gives LeaderSilent, once the leader has shown no progress for the failure timeout."""

    round: int
    term: int


@dataclass(frozen=True)
class ArmServingTimer(Action):
    """Gives ServingOver."""
