"""What can happen to a node."""

from dataclasses import dataclass
from typing import Literal

from services.errors import SwarmError
from services.rpc.swarm_pb2 import ResultCopy
from services.sl.view import Exclusion, Model, View

CheckInMode = Literal["snapshot", "active", "inactive"]


@dataclass(frozen=True)
class RoundEvent:
    """Base class."""


# --- from ML ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SessionOpened(RoundEvent):
    """ML opened its session. ``weight``: 1 to 100; unused if ``weighting`` is samples."""

    node: str
    contract: str
    sync_frequency: int
    min_peers: int
    merge_method: str
    adaptive_sync: bool
    weight: int
    transfer_compression: str = "none"
    first_merge: str = "leader"
    model_version: str = ""
    weighting: str = "fixed"
    patience: int = 0
    metric_down: bool = False


@dataclass(frozen=True)
class Offer:
    """Parameters that ML handed over, complete in the store. ``mode``: how it finished, None while it trains.

    ``again``: they were in a round already, after the end of local training. ``epochs_done``: epochs that ML had done
    then. ``examples``: how many they were trained on since the last merge.
    """

    seq: int
    model: Model
    mode: CheckInMode | None = None
    again: bool = False
    epochs_done: int = 0
    examples: int = 0

    @property
    def finished(self) -> bool:
        return self.mode is not None


@dataclass(frozen=True)
class ParametersOffered(RoundEvent):
    offer: Offer


@dataclass(frozen=True)
class ModelReported(RoundEvent):
    """Loss and metric of a merged model on this node's validation data; None: there is no value."""

    round: int
    loss: float | None
    metric: float | None
    epochs_done: int
    epochs_total: int


@dataclass(frozen=True)
class SessionClosed(RoundEvent):
    """ML ended its session normally."""


@dataclass(frozen=True)
class MLEnded(RoundEvent):
    """ML died or gave up. ``doing``: what it was doing, if the channel knows; else empty."""

    node: str
    doing: str = ""


# --- from the SN ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EnrolmentAccepted(RoundEvent):
    view: View


@dataclass(frozen=True)
class StatusChanged(RoundEvent):
    view: View


@dataclass(frozen=True)
class CheckInAccepted(RoundEvent):
    """Views of this block and later ones show the check-in, unless it was lost."""

    block: int


@dataclass(frozen=True)
class CheckInRefused(RoundEvent):
    error: SwarmError


@dataclass(frozen=True)
class Published(RoundEvent):
    """The result was accepted, or the round was reopened as asked."""


@dataclass(frozen=True)
class PublishRefused(RoundEvent):
    error: SwarmError


# --- from this node's own work --------------------------------------------------------------------------


@dataclass(frozen=True)
class MergeDone(RoundEvent):
    """``copy``: the statement of a second node that it holds the result; None if no other node could."""

    model: Model
    left_out: tuple[Exclusion, ...]
    copy: ResultCopy | None = None


@dataclass(frozen=True)
class TooFew(RoundEvent):
    """Without those left out, the round has fewer than minPeers check-ins."""

    left_out: tuple[Exclusion, ...]


@dataclass(frozen=True)
class Fetched(RoundEvent):
    model: Model


@dataclass(frozen=True)
class FetchFailed(RoundEvent):
    error: SwarmError


# --- time ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LeaderSilent(RoundEvent):
    """The leader of this term has shown no progress for the failure timeout."""

    round: int
    term: int


@dataclass(frozen=True)
class ServingOver(RoundEvent):
    """The final model has been served for long enough."""


# --- from outside -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failed(RoundEvent):
    """Something failed without which this node cannot continue."""

    error: SwarmError


@dataclass(frozen=True)
class StopRequested(RoundEvent):
    """The node was told to stop."""

    node: str
