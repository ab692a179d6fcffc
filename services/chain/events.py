"""The events of the contracts as plain data. Fields are in the order of the Solidity declarations."""

import math
import struct
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar, cast

from eth_abi.exceptions import DecodingError

from services.chain.abi import checksummed, contract_abi
from services.chain.receipts import Log, Position

ROLES = ("none", "sn", "sl", "swop", "swci")
CHANGES = ("admit", "admit-sn", "remove", "expel")


@dataclass(frozen=True)
class TrainingConfig:
    """What all participants of a training agree on. ``quorum_wait_ms`` is that of the first to enrol."""

    min_peers: int
    sync_frequency: int
    merge_method: str
    adaptive_sync: bool
    quorum_wait_ms: int
    transfer_compression: str = "none"
    first_merge: str = "leader"
    model_version: str = ""
    weighting: str = "fixed"
    patience: int = 0
    metric_down: bool = False


@dataclass(frozen=True)
class ChainEvent:
    """Base of all events, with the position on the chain."""

    position: Position


# --- SwarmNetwork ------------------------------------------------------------------------------------


class NetworkEvent(ChainEvent):
    """Base of the directory's events."""


@dataclass(frozen=True)
class MemberRegistered(NetworkEvent):
    name: str
    role: str
    host: str
    port: int
    fingerprint: bytes
    parent: str
    organization: str


@dataclass(frozen=True)
class KeyReplaced(NetworkEvent):
    """``by``: role/name. ``at``: ms since 1970, UTC. ``overlap_s``: how long ``before`` stays valid."""

    name: str
    role: str
    before: bytes
    key: bytes
    by: str
    at: int
    overlap_s: int


@dataclass(frozen=True)
class MemberLeft(NetworkEvent):
    name: str
    role: str
    reason: str


@dataclass(frozen=True)
class MemberExpelled(NetworkEvent):
    """``name``: in its certificate; applies to all its slots. ``by``: role/name; empty if it was voted on."""

    name: str
    role: str
    by: str


@dataclass(frozen=True)
class SNAccountAdded(NetworkEvent):
    account: str
    name: str
    organization: str


@dataclass(frozen=True)
class SNAccountRemoved(NetworkEvent):
    account: str


@dataclass(frozen=True)
class ContractRegistered(NetworkEvent):
    """``organizations``: those that may take part in a training; empty: all."""

    name: str
    kind: str
    location: str
    organizations: tuple[str, ...]


@dataclass(frozen=True)
class OrganizationAdmitted(NetworkEvent):
    """``cas``: SHA-256 of the public keys of all CAs that it has from now on."""

    name: str
    cas: tuple[bytes, ...]


@dataclass(frozen=True)
class OrganizationRemoved(NetworkEvent):
    name: str


@dataclass(frozen=True)
class Proposed(NetworkEvent):
    """``proposer``: the only organization that may withdraw it. ``role``: role of ``node``, if it concerns a node.

    ``by``: role/name of an administrator; empty if an SN asks to join.
    """

    number: int
    change: str
    organization: str
    proposer: str
    cas: tuple[bytes, ...]
    role: str
    node: str
    account: str
    by: str


@dataclass(frozen=True)
class Voted(NetworkEvent):
    number: int
    organization: str
    by: str


@dataclass(frozen=True)
class CarriedOut(NetworkEvent):
    number: int


@dataclass(frozen=True)
class Withdrawn(NetworkEvent):
    """``by``: role/name of an administrator; empty if the SN asks again."""

    number: int
    by: str


# --- TrainingContract --------------------------------------------------------------------------------


class TrainingEvent(ChainEvent):
    """Base of a training's events."""


@dataclass(frozen=True)
class Configured(TrainingEvent):
    """Replaces an earlier configuration and layout, if all who agreed on them left before a merge."""

    config: TrainingConfig
    by: str


@dataclass(frozen=True)
class Enrolled(TrainingEvent):
    name: str
    fingerprint: bytes
    may_lead: bool
    round: int


@dataclass(frozen=True)
class LayoutAgreed(TrainingEvent):
    layout: bytes
    by: str


@dataclass(frozen=True)
class CheckedIn(TrainingEvent):
    round: int
    name: str
    digest: bytes
    size: int
    weight: int
    finished: bool
    host: str
    port: int
    staleness: int = 0


@dataclass(frozen=True)
class MergeStarted(TrainingEvent):
    round: int
    term: int
    leader: str
    participants: int


@dataclass(frozen=True)
class LeaderVotedOut(TrainingEvent):
    round: int
    term: int
    voter: str
    votes: int
    followers: int


@dataclass(frozen=True)
class LeaderDeposed(TrainingEvent):
    round: int
    term: int
    leader: str


@dataclass(frozen=True)
class LeftOut(TrainingEvent):
    """``not_finite``: its parameters contain NaN or infinity."""

    round: int
    term: int
    name: str
    reason: str
    not_finite: bool = False


@dataclass(frozen=True)
class RoundReopened(TrainingEvent):
    round: int
    term: int
    have: int
    need: int


@dataclass(frozen=True)
class RoundAccepted(TrainingEvent):
    round: int
    term: int
    leader: str
    digest: bytes
    size: int
    participants: int


@dataclass(frozen=True)
class Completed(TrainingEvent):
    round: int
    digest: bytes


@dataclass(frozen=True)
class Reported(TrainingEvent):
    round: int
    name: str
    loss: float | None
    metric: float | None
    epochs_done: int
    epochs_total: int


@dataclass(frozen=True)
class IntervalChosen(TrainingEvent):
    """``reason``: as in the contract. ``mean_loss``: of the previous round; ``earlier_loss``: of rounds before that."""

    round: int
    interval: int
    reason: int
    mean_loss: float
    earlier_loss: float


@dataclass(frozen=True)
class BestMerged(TrainingEvent):
    round: int
    mean_metric: float


@dataclass(frozen=True)
class StoppedEarly(TrainingEvent):
    round: int
    best_round: int
    patience: int


@dataclass(frozen=True)
class Left(TrainingEvent):
    name: str
    reason: str
    round: int


@dataclass(frozen=True)
class Reset(TrainingEvent):
    next_round: int


# --- decoding ----------------------------------------------------------------------------------------


NO_VALUE = 2**64 - 1  # as in the contract; one of the many bit patterns of NaN
NOT_FINITE = "[not-finite] "  # prefix of the reason why a node is left out


def measure_of(bits: int) -> float | None:
    """The double whose IEEE 754 bits are in a uint64; None if they mean no value."""
    return None if bits == NO_VALUE else float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def bits_of(measure: float | None) -> int:
    """The IEEE 754 bits of a double as a uint64; every NaN gets the same bits."""
    if measure is None:
        return NO_VALUE
    value = math.nan if math.isnan(measure) else measure
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def marked(reason: str, not_finite: bool) -> str:
    """A reason as stored on the chain, in one text."""
    return f"{NOT_FINITE}{reason}" if not_finite else reason


def value_of(steps: int) -> float:
    """A number that the contract counts in steps of 2**-64."""
    return steps / 2**64


E = TypeVar("E", bound=ChainEvent)


class NotAnEvent(Exception):
    """A log of a contract that is not what it was registered as: any SN may register any address."""


# By argument, if its form on the chain differs from ours.
_CONVERT: dict[str, Callable[[Any], Any]] = {
    "role": lambda number: ROLES[number],
    "change": lambda number: CHANGES[number],
    "lossBits": measure_of,
    "metricBits": measure_of,
    "meanLoss": value_of,
    "earlierLoss": value_of,
    "meanMetric": value_of,
    "config": lambda fields: TrainingConfig(*fields),
    "account": checksummed,
    "location": checksummed,
}


def network_event(log: Log) -> NetworkEvent:
    """The event of the directory in a log."""
    return decoded("SwarmNetwork", log, NetworkEvent)


def training_event(log: Log) -> TrainingEvent:
    """The event of a training in a log."""
    event = decoded("TrainingContract", log, TrainingEvent)
    if isinstance(event, LeftOut) and event.reason.startswith(NOT_FINITE):
        return replace(event, reason=event.reason.removeprefix(NOT_FINITE), not_finite=True)
    return event


def decoded(
    contract: str, log: Log, base: type[E], convert: Mapping[str, Callable[[Any], Any]] = MappingProxyType({})
) -> E:
    """The event in a log, as the subclass of ``base`` with its name. ``convert``: by argument, before the usual ones.

    Raises NotAnEvent if it is not an event of this contract.
    """
    event = contract_abi(contract).events.get(log.topics[0]) if log.topics else None
    if event is None:
        raise NotAnEvent("no event of this contract has its topic")
    try:
        arguments = [
            _converted(convert.get(name) or _CONVERT.get(name), value)
            for name, value in zip(event.names, event.decode(log.topics, log.data), strict=True)
        ]
    except (DecodingError, ValueError, IndexError, OverflowError) as error:
        raise NotAnEvent(f"it is no {event.name}: {error}") from None
    made: E = _classes(cast(Hashable, base))[event.name](log.position, *arguments)
    return made


def _converted(how: Callable[[Any], Any] | None, value: Any) -> Any:
    return how(value) if how else value


@cache
def _classes(base: Any) -> dict[str, type[Any]]:
    return {cls.__name__: cls for cls in base.__subclasses__()}
