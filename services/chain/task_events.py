"""The events of TaskRegistry and TaskRunner as plain data. Fields are in the order of the Solidity declarations."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from services.chain.events import ChainEvent, decoded
from services.chain.receipts import Log


class RunnerState(IntEnum):
    """As in the contract and in the API."""

    IDLE = 0
    ASSIGNED = 1
    RUNNING = 2
    COMPLETE = 3
    ERROR = 4


class PeerState(IntEnum):
    """As in the contract and in the API."""

    NONE = 0
    ENROLLED = 1
    RUNNING = 2
    COMPLETE = 3
    ERROR = 4


@dataclass(frozen=True)
class TaskHeader:
    """``author``: as the writer of the task gave it. ``prereq``: name of another task, or ROOTTASK."""

    name: str
    task_type: str
    author: str
    prereq: str
    outcome: str


@dataclass(frozen=True)
class Assigned:
    """What a taskrunner has to do. ``by``: role/name of whoever assigned it; ``target``: empty for any SWOP."""

    task: str
    task_type: str
    runs_pairs: bool
    content_hash: bytes
    needed: int
    target: str
    by: str


@dataclass(frozen=True)
class PeerReport:
    """The state of one of the peers of a SWOP (``agent``)."""

    agent: str
    index: int
    state: PeerState
    peer: str
    description: str


class RegistryEvent(ChainEvent):
    """Base of the events of TaskRegistry."""


@dataclass(frozen=True)
class TaskCreated(RegistryEvent):
    """``at``: milliseconds since 1970, here and below."""

    header: TaskHeader
    registrant: str
    fingerprint: bytes
    at: int


@dataclass(frozen=True)
class TaskBodySet(RegistryEvent):
    name: str
    body_hash: bytes
    body: bytes


@dataclass(frozen=True)
class TaskFinalized(RegistryEvent):
    name: str
    content_hash: bytes


@dataclass(frozen=True)
class TaskRemoved(RegistryEvent):
    name: str


class RunnerEvent(ChainEvent):
    """Base of the events of TaskRunner."""


@dataclass(frozen=True)
class AgentAttended(RunnerEvent):
    name: str
    group: str
    peers: int
    fingerprint: bytes


@dataclass(frozen=True)
class AgentQuit(RunnerEvent):
    name: str
    reason: str


@dataclass(frozen=True)
class TaskAssigned(RunnerEvent):
    assignment: int
    assigned: Assigned
    at: int


@dataclass(frozen=True)
class TargetAdded(RunnerEvent):
    assignment: int
    target: str
    needed: int
    by: str


@dataclass(frozen=True)
class AgentEnrolled(RunnerEvent):
    assignment: int
    name: str
    peers: int


@dataclass(frozen=True)
class RunnerStarted(RunnerEvent):
    assignment: int
    at: int


@dataclass(frozen=True)
class PeerReported(RunnerEvent):
    assignment: int
    report: PeerReport
    at: int


@dataclass(frozen=True)
class RunnerEnded(RunnerEvent):
    assignment: int
    state: RunnerState
    at: int


@dataclass(frozen=True)
class RunnerReset(RunnerEvent):
    assignment: int
    by: str


@dataclass(frozen=True)
class AgentReleased(RunnerEvent):
    assignment: int
    name: str


def registry_event(log: Log) -> RegistryEvent:
    """The event of TaskRegistry in a log."""
    return decoded("TaskRegistry", log, RegistryEvent, {"header": lambda fields: TaskHeader(*fields)})


def runner_event(log: Log) -> RunnerEvent:
    """The event of TaskRunner in a log."""
    return decoded("TaskRunner", log, RunnerEvent, _CONVERT)


def _report(fields: tuple[Any, ...]) -> PeerReport:
    agent, index, state, peer, description = fields
    return PeerReport(agent, index, PeerState(state), peer, description)


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "report": _report,
    "assigned": lambda fields: Assigned(*fields),
    "state": RunnerState,
}
