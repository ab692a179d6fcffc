"""The results of an SWCI as plain data, the same for its commands, for /api/v1 and for the clients.

Times are seconds since 1970-01-01 UTC, or 0 if there is none yet; sizes are bytes; digests are hexadecimal.
"""

from dataclasses import dataclass, field
from typing import Literal

# A reported value: a number, the name of one that JSON cannot express, or None if there is none, for example without
# validation data.
Measure = float | Literal["NaN", "Infinity", "-Infinity"] | None


@dataclass(frozen=True)
class Message:
    """The result of a command that returns only a message."""

    text: str


@dataclass(frozen=True)
class File:
    """``mode``: in the format of ``ls -l``."""

    name: str
    directory: bool
    size: int
    mode: str
    modified_at: float


@dataclass(frozen=True)
class Files:
    files: list[File]


@dataclass(frozen=True)
class CommandHelp:
    """``syntax``: required arguments in <>, optional ones in []."""

    syntax: str
    group: str
    summary: str
    text: str


@dataclass(frozen=True)
class Help:
    commands: list[CommandHelp]


# --- contexts and nodes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Context:
    """An SN to work with. ``service``: FQDN:PORT behind a reverse proxy, or empty. ``version``: of that SN."""

    name: str
    active: bool
    host: str
    port: int
    service: str
    sn: str
    version: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contexts:
    contexts: list[Context]


@dataclass(frozen=True)
class Variables:
    """``environment``: all variables of the context, or only the requested one."""

    context: str
    environment: dict[str, str]


@dataclass(frozen=True)
class Server:
    """An SN, as it describes itself. ``chain``: geth or embedded."""

    name: str
    address: str
    version: str
    chain: str
    chain_id: int
    block: int


@dataclass(frozen=True)
class Node:
    """``type``: SENTINEL, SN, SL, SWOP or SWCI. ``parent``: the SN through which it registered.

    ``organization``: that of its certificate's CA, by the parent's trust file; empty if the parent has none.
    ``certificate_ends``: 0 if unknown to the SN of the active context, or if the certificate is renewed automatically.
    """

    name: str
    type: str
    host: str
    port: int
    parent: str
    present: bool
    last_seen: float
    fingerprint: str
    organization: str = ""
    certificate_ends: float = 0.0


@dataclass(frozen=True)
class Nodes:
    """``open_proposals``: numbers of the proposals that organizations can vote on."""

    nodes: list[Node]
    open_proposals: list[int] = field(default_factory=list)


# --- organizations --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Organization:
    """``cas``: SHA-256 of the public key of each CA. ``sns``: how many of its SNs may write; with none it has no vote.

    The name is empty if the swarm was founded without a trust file.
    """

    name: str
    cas: list[str]
    sns: int


@dataclass(frozen=True)
class Vote:
    """``by``: role/name of the administrator who ordered the vote."""

    organization: str
    by: str


@dataclass(frozen=True)
class Proposal:
    """``change``: admit (with ``cas``), admit-sn (with ``node`` and ``account``), remove, or expel (with ``node`` and
    ``role``). ``proposer``: the organization that may withdraw it. ``at``: when it was made.

    ``missing``: organizations that can still vote for it. ``open``: False once it has been carried out.
    """

    number: int
    change: str
    organization: str
    proposer: str
    at: int
    cas: list[str]
    role: str
    node: str
    account: str
    votes: list[Vote]
    votes_needed: int
    missing: list[str]
    open: bool


@dataclass(frozen=True)
class Expulsion:
    """``proposal``: to be voted on first, if the node is of another organization; None: the node is expelled."""

    role: str
    node: str
    proposal: Proposal | None


@dataclass(frozen=True)
class Organizations:
    """``proposals``: the open ones."""

    organizations: list[Organization]
    proposals: list[Proposal]


# --- training contracts ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contract:
    """``kind``: training, tasks or taskrunner. ``location``: its address on the chain.

    ``organizations``: whose SLs may take part in a training; empty: all.
    """

    name: str
    kind: str
    location: str
    organizations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Contracts:
    contracts: list[Contract]


@dataclass(frozen=True)
class ContractInfo:
    """The agreed configuration of a training; zeros and empty text before the first node has enrolled."""

    name: str
    location: str
    configured: bool
    min_peers: int
    sync_frequency: int
    adaptive_sync: bool
    merge_method: str
    transfer_compression: str
    quorum_wait_s: float
    layout: str
    layout_by: str
    participants: list[str]


@dataclass(frozen=True)
class Participant:
    """``doing``: its state in words. ``round``: of its last report of loss and metric; 0 before the first.

    ``organization``: as in Node.
    """

    uid: str
    doing: str
    active: bool
    may_lead: bool
    host: str
    port: int
    round: int
    loss: Measure
    metric: Measure
    epochs_done: int
    epochs_total: int
    organization: str = ""


@dataclass(frozen=True)
class LeftOut:
    uid: str
    reason: str


@dataclass(frozen=True)
class Round:
    """An accepted round. ``merged``: participants whose parameters are in its result."""

    round: int
    term: int
    leader: str
    digest: str
    size: int
    merged: list[str]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class Rounds:
    contract: str
    rounds: list[Round]


@dataclass(frozen=True)
class MergeProgress:
    """Progress of the leader. ``age_s``: seconds since it last advanced."""

    bytes_done: int
    bytes_total: int
    age_s: float


@dataclass(frozen=True)
class ContractStatus:
    """``state``: UNCONFIGURED, CHECKIN, MERGE or COMPLETE. ``version`` grows with every change."""

    name: str
    version: int
    state: str
    summary: str
    round: int
    term: int
    leader: str
    min_peers: int
    checked_in: list[str]
    awaited: list[str]
    progress: MergeProgress | None
    last_round: Round | None
    participants: list[Participant]


@dataclass(frozen=True)
class Performance:
    """One SL-ML pair. ``sl_admin``: it leads the current round. ``round``: 0 before its first report."""

    uid: str
    sl_admin: bool
    round: int
    loss: Measure
    metric: Measure
    epochs_total: int
    epochs_done: int


@dataclass(frozen=True)
class PerformanceData:
    contract: str
    pairs: list[Performance]


# --- tasks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """``registered_by``: role and name of the certificate that created it. ``author``: as given in its YAML."""

    name: str
    type: str
    author: str
    prereq: str
    outcome: str
    finalized: bool
    registered_by: str
    created_at: float
    body_size: int
    body_hash: str
    content_hash: str


@dataclass(frozen=True)
class Tasks:
    tasks: list[Task]


@dataclass(frozen=True)
class TaskBody:
    """Lines are counted from 1."""

    name: str
    lines: list[str]


# --- taskrunners ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agent:
    """A SWOP of a taskrunner. ``sl_peers``: SL-ML pairs in its profile. ``enrolled``: in the current assignment.

    ``released``: it has removed everything that it started for the assignment.
    """

    uid: str
    group: str
    sl_peers: int
    attends: bool
    present: bool
    admissible: bool
    enrolled: bool
    enrolled_peers: int
    released: bool
    last_seen: float


@dataclass(frozen=True)
class Peer:
    """The state of one peer of a task.

    ``index``: among all peers of the task. ``agent_index``: among those of its SWOP.
    """

    index: int
    agent: str
    agent_index: int
    uid: str
    state: str
    description: str
    updated_at: float


@dataclass(frozen=True)
class TaskRunnerInfo:
    name: str
    location: str
    agents: list[Agent]


@dataclass(frozen=True)
class TaskRunners:
    taskrunners: list[Contract]


@dataclass(frozen=True)
class TaskRunnerStatus:
    """``state``: IDLE, ASSIGNED, RUNNING, COMPLETE or ERROR. ``peer_type``: SL for RUN_SWARM, otherwise SWOP.

    ``assignment``: its number. ``targets``: the only SWOPs that may take part; empty: all.
    """

    name: str
    location: str
    version: int
    state: str
    assignment: int
    task: str
    task_type: str
    peer_type: str
    content_hash: str
    assigned_by: str
    targets: list[str]
    peers_needed: int
    peers_active: int
    peers_completed: int
    peers_failed: int
    assigned_at: float
    started_at: float
    ended_at: float
    agents: list[Agent]
    peers: list[Peer]


@dataclass(frozen=True)
class PeerStatus:
    """One peer: an SL for RUN_SWARM, otherwise a SWOP. ``peers``: all peers that its SWOP brings to the task."""

    taskrunner: str
    assignment: int
    agent: Agent | None
    peer: Peer
    peers: list[Peer]


@dataclass(frozen=True)
class WaitResult:
    """``over``: True if the task has ended, False if the waiting time is over but the task is not."""

    over: bool
    status: TaskRunnerStatus
