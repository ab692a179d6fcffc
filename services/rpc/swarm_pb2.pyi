from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RoundState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNCONFIGURED: _ClassVar[RoundState]
    CHECKIN: _ClassVar[RoundState]
    MERGE: _ClassVar[RoundState]
    COMPLETE: _ClassVar[RoundState]

class RunnerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUNNER_IDLE: _ClassVar[RunnerState]
    RUNNER_ASSIGNED: _ClassVar[RunnerState]
    RUNNER_RUNNING: _ClassVar[RunnerState]
    RUNNER_COMPLETE: _ClassVar[RunnerState]
    RUNNER_ERROR: _ClassVar[RunnerState]

class PeerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PEER_NONE: _ClassVar[PeerState]
    PEER_ENROLLED: _ClassVar[PeerState]
    PEER_RUNNING: _ClassVar[PeerState]
    PEER_COMPLETE: _ClassVar[PeerState]
    PEER_ERROR: _ClassVar[PeerState]
UNCONFIGURED: RoundState
CHECKIN: RoundState
MERGE: RoundState
COMPLETE: RoundState
RUNNER_IDLE: RunnerState
RUNNER_ASSIGNED: RunnerState
RUNNER_RUNNING: RunnerState
RUNNER_COMPLETE: RunnerState
RUNNER_ERROR: RunnerState
PEER_NONE: PeerState
PEER_ENROLLED: PeerState
PEER_RUNNING: PeerState
PEER_COMPLETE: PeerState
PEER_ERROR: PeerState

class RegisterRequest(_message.Message):
    __slots__ = ("host", "port")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    host: str
    port: int
    def __init__(self, host: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class RegisterReply(_message.Message):
    __slots__ = ("sn", "organization")
    SN_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATION_FIELD_NUMBER: _ClassVar[int]
    sn: str
    organization: str
    def __init__(self, sn: _Optional[str] = ..., organization: _Optional[str] = ...) -> None: ...

class HandOverRequest(_message.Message):
    __slots__ = ("handovers",)
    HANDOVERS_FIELD_NUMBER: _ClassVar[int]
    handovers: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, handovers: _Optional[_Iterable[bytes]] = ...) -> None: ...

class HandOverReply(_message.Message):
    __slots__ = ("fingerprint",)
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    def __init__(self, fingerprint: _Optional[bytes] = ...) -> None: ...

class DeregisterRequest(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class DeregisterReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HoldNameRequest(_message.Message):
    __slots__ = ("host", "port", "answer")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    host: str
    port: int
    answer: int
    def __init__(self, host: _Optional[str] = ..., port: _Optional[int] = ..., answer: _Optional[int] = ...) -> None: ...

class HoldNameReply(_message.Message):
    __slots__ = ("question", "expelled")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    EXPELLED_FIELD_NUMBER: _ClassVar[int]
    question: int
    expelled: _containers.RepeatedCompositeFieldContainer[Expelled]
    def __init__(self, question: _Optional[int] = ..., expelled: _Optional[_Iterable[_Union[Expelled, _Mapping]]] = ...) -> None: ...

class Expelled(_message.Message):
    __slots__ = ("role", "name")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    role: str
    name: str
    def __init__(self, role: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class FindHolderRequest(_message.Message):
    __slots__ = ("role", "name", "process", "address")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    role: str
    name: str
    process: bytes
    address: str
    def __init__(self, role: _Optional[str] = ..., name: _Optional[str] = ..., process: _Optional[bytes] = ..., address: _Optional[str] = ...) -> None: ...

class FindHolderReply(_message.Message):
    __slots__ = ("held", "address")
    HELD_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    held: bool
    address: str
    def __init__(self, held: _Optional[bool] = ..., address: _Optional[str] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "role", "host", "port", "fingerprint", "parent", "present", "last_seen", "organization", "certificate_ends")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATION_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ENDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    host: str
    port: int
    fingerprint: bytes
    parent: str
    present: bool
    last_seen: float
    organization: str
    certificate_ends: float
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., fingerprint: _Optional[bytes] = ..., parent: _Optional[str] = ..., present: _Optional[bool] = ..., last_seen: _Optional[float] = ..., organization: _Optional[str] = ..., certificate_ends: _Optional[float] = ...) -> None: ...

class ListNodesReply(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ...) -> None: ...

class ListContractsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ContractEntry(_message.Message):
    __slots__ = ("name", "kind", "location", "organizations")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    location: str
    organizations: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., location: _Optional[str] = ..., organizations: _Optional[_Iterable[str]] = ...) -> None: ...

class ListContractsReply(_message.Message):
    __slots__ = ("contracts",)
    CONTRACTS_FIELD_NUMBER: _ClassVar[int]
    contracts: _containers.RepeatedCompositeFieldContainer[ContractEntry]
    def __init__(self, contracts: _Optional[_Iterable[_Union[ContractEntry, _Mapping]]] = ...) -> None: ...

class GetInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetInfoReply(_message.Message):
    __slots__ = ("name", "version", "chain", "chain_id", "block", "account", "network_contract", "now")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    NETWORK_CONTRACT_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    chain: str
    chain_id: int
    block: int
    account: str
    network_contract: str
    now: float
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., chain: _Optional[str] = ..., chain_id: _Optional[int] = ..., block: _Optional[int] = ..., account: _Optional[str] = ..., network_contract: _Optional[str] = ..., now: _Optional[float] = ...) -> None: ...

class ListOrganizationsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Organization(_message.Message):
    __slots__ = ("name", "cas", "sns")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CAS_FIELD_NUMBER: _ClassVar[int]
    SNS_FIELD_NUMBER: _ClassVar[int]
    name: str
    cas: _containers.RepeatedScalarFieldContainer[bytes]
    sns: int
    def __init__(self, name: _Optional[str] = ..., cas: _Optional[_Iterable[bytes]] = ..., sns: _Optional[int] = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ("organization", "by")
    ORGANIZATION_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    organization: str
    by: str
    def __init__(self, organization: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class Proposal(_message.Message):
    __slots__ = ("number", "change", "organization", "cas", "node", "account", "votes", "open", "proposer", "at", "role")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATION_FIELD_NUMBER: _ClassVar[int]
    CAS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    PROPOSER_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    number: int
    change: str
    organization: str
    cas: _containers.RepeatedScalarFieldContainer[bytes]
    node: str
    account: str
    votes: _containers.RepeatedCompositeFieldContainer[Vote]
    open: bool
    proposer: str
    at: int
    role: str
    def __init__(self, number: _Optional[int] = ..., change: _Optional[str] = ..., organization: _Optional[str] = ..., cas: _Optional[_Iterable[bytes]] = ..., node: _Optional[str] = ..., account: _Optional[str] = ..., votes: _Optional[_Iterable[_Union[Vote, _Mapping]]] = ..., open: _Optional[bool] = ..., proposer: _Optional[str] = ..., at: _Optional[int] = ..., role: _Optional[str] = ...) -> None: ...

class ListOrganizationsReply(_message.Message):
    __slots__ = ("organizations", "proposals", "votes_needed")
    ORGANIZATIONS_FIELD_NUMBER: _ClassVar[int]
    PROPOSALS_FIELD_NUMBER: _ClassVar[int]
    VOTES_NEEDED_FIELD_NUMBER: _ClassVar[int]
    organizations: _containers.RepeatedCompositeFieldContainer[Organization]
    proposals: _containers.RepeatedCompositeFieldContainer[Proposal]
    votes_needed: int
    def __init__(self, organizations: _Optional[_Iterable[_Union[Organization, _Mapping]]] = ..., proposals: _Optional[_Iterable[_Union[Proposal, _Mapping]]] = ..., votes_needed: _Optional[int] = ...) -> None: ...

class Config(_message.Message):
    __slots__ = ("min_peers", "sync_frequency", "merge_method", "adaptive_sync", "quorum_wait_ms", "transfer_compression", "first_merge", "model_version", "weighting", "patience", "metric_down")
    MIN_PEERS_FIELD_NUMBER: _ClassVar[int]
    SYNC_FREQUENCY_FIELD_NUMBER: _ClassVar[int]
    MERGE_METHOD_FIELD_NUMBER: _ClassVar[int]
    ADAPTIVE_SYNC_FIELD_NUMBER: _ClassVar[int]
    QUORUM_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    FIRST_MERGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTING_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    METRIC_DOWN_FIELD_NUMBER: _ClassVar[int]
    min_peers: int
    sync_frequency: int
    merge_method: str
    adaptive_sync: bool
    quorum_wait_ms: int
    transfer_compression: str
    first_merge: str
    model_version: str
    weighting: str
    patience: int
    metric_down: bool
    def __init__(self, min_peers: _Optional[int] = ..., sync_frequency: _Optional[int] = ..., merge_method: _Optional[str] = ..., adaptive_sync: _Optional[bool] = ..., quorum_wait_ms: _Optional[int] = ..., transfer_compression: _Optional[str] = ..., first_merge: _Optional[str] = ..., model_version: _Optional[str] = ..., weighting: _Optional[str] = ..., patience: _Optional[int] = ..., metric_down: _Optional[bool] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("contract", "config", "may_lead")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    MAY_LEAD_FIELD_NUMBER: _ClassVar[int]
    contract: str
    config: Config
    may_lead: bool
    def __init__(self, contract: _Optional[str] = ..., config: _Optional[_Union[Config, _Mapping]] = ..., may_lead: _Optional[bool] = ...) -> None: ...

class EnrolReply(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: TrainingStatus
    def __init__(self, status: _Optional[_Union[TrainingStatus, _Mapping]] = ...) -> None: ...

class CheckInRequest(_message.Message):
    __slots__ = ("contract", "round", "base", "digest", "size", "layout", "weight", "finished", "host", "port")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    contract: str
    round: int
    base: int
    digest: bytes
    size: int
    layout: bytes
    weight: int
    finished: bool
    host: str
    port: int
    def __init__(self, contract: _Optional[str] = ..., round: _Optional[int] = ..., base: _Optional[int] = ..., digest: _Optional[bytes] = ..., size: _Optional[int] = ..., layout: _Optional[bytes] = ..., weight: _Optional[int] = ..., finished: _Optional[bool] = ..., host: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class CheckInReply(_message.Message):
    __slots__ = ("block",)
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    block: int
    def __init__(self, block: _Optional[int] = ...) -> None: ...

class ProgressRequest(_message.Message):
    __slots__ = ("contract", "round", "term", "bytes_done", "bytes_total")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    contract: str
    round: int
    term: int
    bytes_done: int
    bytes_total: int
    def __init__(self, contract: _Optional[str] = ..., round: _Optional[int] = ..., term: _Optional[int] = ..., bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ...) -> None: ...

class ProgressReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeftOut(_message.Message):
    __slots__ = ("name", "reason", "not_finite")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NOT_FINITE_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    not_finite: bool
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ..., not_finite: _Optional[bool] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("contract", "round", "term", "digest", "size", "left_out", "copy")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    COPY_FIELD_NUMBER: _ClassVar[int]
    contract: str
    round: int
    term: int
    digest: bytes
    size: int
    left_out: _containers.RepeatedCompositeFieldContainer[LeftOut]
    copy: ResultCopy
    def __init__(self, contract: _Optional[str] = ..., round: _Optional[int] = ..., term: _Optional[int] = ..., digest: _Optional[bytes] = ..., size: _Optional[int] = ..., left_out: _Optional[_Iterable[_Union[LeftOut, _Mapping]]] = ..., copy: _Optional[_Union[ResultCopy, _Mapping]] = ...) -> None: ...

class ResultCopy(_message.Message):
    __slots__ = ("holder", "certificates", "signature")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    holder: str
    certificates: _containers.RepeatedScalarFieldContainer[bytes]
    signature: bytes
    def __init__(self, holder: _Optional[str] = ..., certificates: _Optional[_Iterable[bytes]] = ..., signature: _Optional[bytes] = ...) -> None: ...

class PublishReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReopenRequest(_message.Message):
    __slots__ = ("contract", "round", "term", "left_out")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    contract: str
    round: int
    term: int
    left_out: _containers.RepeatedCompositeFieldContainer[LeftOut]
    def __init__(self, contract: _Optional[str] = ..., round: _Optional[int] = ..., term: _Optional[int] = ..., left_out: _Optional[_Iterable[_Union[LeftOut, _Mapping]]] = ...) -> None: ...

class ReopenReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VoteOutRequest(_message.Message):
    __slots__ = ("contract", "round", "term")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    contract: str
    round: int
    term: int
    def __init__(self, contract: _Optional[str] = ..., round: _Optional[int] = ..., term: _Optional[int] = ...) -> None: ...

class VoteOutReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("contract", "round", "loss", "metric", "epochs_done", "epochs_total")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_DONE_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    contract: str
    round: int
    loss: float
    metric: float
    epochs_done: int
    epochs_total: int
    def __init__(self, contract: _Optional[str] = ..., round: _Optional[int] = ..., loss: _Optional[float] = ..., metric: _Optional[float] = ..., epochs_done: _Optional[int] = ..., epochs_total: _Optional[int] = ...) -> None: ...

class ReportReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ("contract", "reason")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    contract: str
    reason: str
    def __init__(self, contract: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class LeaveReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ("contract",)
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    contract: str
    def __init__(self, contract: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("contract", "seen", "changes")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    contract: str
    seen: int
    changes: bool
    def __init__(self, contract: _Optional[str] = ..., seen: _Optional[int] = ..., changes: _Optional[bool] = ...) -> None: ...

class Participant(_message.Message):
    __slots__ = ("name", "host", "port", "fingerprint", "active", "may_lead", "report_round", "loss", "metric", "epochs_done", "epochs_total", "left_reason", "lost", "previous_fingerprint", "previous_until", "organization")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    MAY_LEAD_FIELD_NUMBER: _ClassVar[int]
    REPORT_ROUND_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_DONE_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    LEFT_REASON_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_UNTIL_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    host: str
    port: int
    fingerprint: bytes
    active: bool
    may_lead: bool
    report_round: int
    loss: float
    metric: float
    epochs_done: int
    epochs_total: int
    left_reason: str
    lost: bool
    previous_fingerprint: bytes
    previous_until: float
    organization: str
    def __init__(self, name: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., fingerprint: _Optional[bytes] = ..., active: _Optional[bool] = ..., may_lead: _Optional[bool] = ..., report_round: _Optional[int] = ..., loss: _Optional[float] = ..., metric: _Optional[float] = ..., epochs_done: _Optional[int] = ..., epochs_total: _Optional[int] = ..., left_reason: _Optional[str] = ..., lost: _Optional[bool] = ..., previous_fingerprint: _Optional[bytes] = ..., previous_until: _Optional[float] = ..., organization: _Optional[str] = ...) -> None: ...

class CheckIn(_message.Message):
    __slots__ = ("name", "digest", "size", "weight", "finished", "staleness")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: bytes
    size: int
    weight: int
    finished: bool
    staleness: int
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[bytes] = ..., size: _Optional[int] = ..., weight: _Optional[int] = ..., finished: _Optional[bool] = ..., staleness: _Optional[int] = ...) -> None: ...

class RoundResult(_message.Message):
    __slots__ = ("round", "term", "leader", "digest", "size", "merged", "left_out", "interval", "pace", "best_round", "stopped_early")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MERGED_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    BEST_ROUND_FIELD_NUMBER: _ClassVar[int]
    STOPPED_EARLY_FIELD_NUMBER: _ClassVar[int]
    round: int
    term: int
    leader: str
    digest: bytes
    size: int
    merged: _containers.RepeatedScalarFieldContainer[str]
    left_out: _containers.RepeatedCompositeFieldContainer[LeftOut]
    interval: int
    pace: str
    best_round: int
    stopped_early: int
    def __init__(self, round: _Optional[int] = ..., term: _Optional[int] = ..., leader: _Optional[str] = ..., digest: _Optional[bytes] = ..., size: _Optional[int] = ..., merged: _Optional[_Iterable[str]] = ..., left_out: _Optional[_Iterable[_Union[LeftOut, _Mapping]]] = ..., interval: _Optional[int] = ..., pace: _Optional[str] = ..., best_round: _Optional[int] = ..., stopped_early: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("bytes_done", "bytes_total", "age_s")
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    bytes_done: int
    bytes_total: int
    age_s: float
    def __init__(self, bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., age_s: _Optional[float] = ...) -> None: ...

class TrainingStatus(_message.Message):
    __slots__ = ("contract", "location", "version", "state", "round", "term", "leader", "config", "layout", "layout_by", "participants", "check_ins", "last_result", "awaited", "progress", "left_out", "first_round", "block", "since", "check_ins_gone")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_BY_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    CHECK_INS_FIELD_NUMBER: _ClassVar[int]
    LAST_RESULT_FIELD_NUMBER: _ClassVar[int]
    AWAITED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    FIRST_ROUND_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    CHECK_INS_GONE_FIELD_NUMBER: _ClassVar[int]
    contract: str
    location: str
    version: int
    state: RoundState
    round: int
    term: int
    leader: str
    config: Config
    layout: bytes
    layout_by: str
    participants: _containers.RepeatedCompositeFieldContainer[Participant]
    check_ins: _containers.RepeatedCompositeFieldContainer[CheckIn]
    last_result: RoundResult
    awaited: _containers.RepeatedScalarFieldContainer[str]
    progress: Progress
    left_out: _containers.RepeatedCompositeFieldContainer[LeftOut]
    first_round: int
    block: int
    since: int
    check_ins_gone: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, contract: _Optional[str] = ..., location: _Optional[str] = ..., version: _Optional[int] = ..., state: _Optional[_Union[RoundState, str]] = ..., round: _Optional[int] = ..., term: _Optional[int] = ..., leader: _Optional[str] = ..., config: _Optional[_Union[Config, _Mapping]] = ..., layout: _Optional[bytes] = ..., layout_by: _Optional[str] = ..., participants: _Optional[_Iterable[_Union[Participant, _Mapping]]] = ..., check_ins: _Optional[_Iterable[_Union[CheckIn, _Mapping]]] = ..., last_result: _Optional[_Union[RoundResult, _Mapping]] = ..., awaited: _Optional[_Iterable[str]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., left_out: _Optional[_Iterable[_Union[LeftOut, _Mapping]]] = ..., first_round: _Optional[int] = ..., block: _Optional[int] = ..., since: _Optional[int] = ..., check_ins_gone: _Optional[_Iterable[str]] = ...) -> None: ...

class GetRecordRequest(_message.Message):
    __slots__ = ("contract",)
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    contract: str
    def __init__(self, contract: _Optional[str] = ...) -> None: ...

class RecordEvent(_message.Message):
    __slots__ = ("block", "log_index", "configured", "enrolled", "layout_agreed", "checked_in", "merge_started", "leader_voted_out", "leader_deposed", "left_out", "round_reopened", "round_accepted", "completed", "reported", "left", "reset", "interval_chosen", "best_merged", "stopped_early")
    class Configured(_message.Message):
        __slots__ = ("config", "by")
        CONFIG_FIELD_NUMBER: _ClassVar[int]
        BY_FIELD_NUMBER: _ClassVar[int]
        config: Config
        by: str
        def __init__(self, config: _Optional[_Union[Config, _Mapping]] = ..., by: _Optional[str] = ...) -> None: ...
    class Enrolled(_message.Message):
        __slots__ = ("name", "fingerprint", "may_lead", "round")
        NAME_FIELD_NUMBER: _ClassVar[int]
        FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
        MAY_LEAD_FIELD_NUMBER: _ClassVar[int]
        ROUND_FIELD_NUMBER: _ClassVar[int]
        name: str
        fingerprint: bytes
        may_lead: bool
        round: int
        def __init__(self, name: _Optional[str] = ..., fingerprint: _Optional[bytes] = ..., may_lead: _Optional[bool] = ..., round: _Optional[int] = ...) -> None: ...
    class LayoutAgreed(_message.Message):
        __slots__ = ("layout", "by")
        LAYOUT_FIELD_NUMBER: _ClassVar[int]
        BY_FIELD_NUMBER: _ClassVar[int]
        layout: bytes
        by: str
        def __init__(self, layout: _Optional[bytes] = ..., by: _Optional[str] = ...) -> None: ...
    class CheckedIn(_message.Message):
        __slots__ = ("round", "name", "digest", "size", "weight", "finished", "host", "port", "staleness")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        DIGEST_FIELD_NUMBER: _ClassVar[int]
        SIZE_FIELD_NUMBER: _ClassVar[int]
        WEIGHT_FIELD_NUMBER: _ClassVar[int]
        FINISHED_FIELD_NUMBER: _ClassVar[int]
        HOST_FIELD_NUMBER: _ClassVar[int]
        PORT_FIELD_NUMBER: _ClassVar[int]
        STALENESS_FIELD_NUMBER: _ClassVar[int]
        round: int
        name: str
        digest: bytes
        size: int
        weight: int
        finished: bool
        host: str
        port: int
        staleness: int
        def __init__(self, round: _Optional[int] = ..., name: _Optional[str] = ..., digest: _Optional[bytes] = ..., size: _Optional[int] = ..., weight: _Optional[int] = ..., finished: _Optional[bool] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., staleness: _Optional[int] = ...) -> None: ...
    class MergeStarted(_message.Message):
        __slots__ = ("round", "term", "leader", "participants")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        TERM_FIELD_NUMBER: _ClassVar[int]
        LEADER_FIELD_NUMBER: _ClassVar[int]
        PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
        round: int
        term: int
        leader: str
        participants: int
        def __init__(self, round: _Optional[int] = ..., term: _Optional[int] = ..., leader: _Optional[str] = ..., participants: _Optional[int] = ...) -> None: ...
    class LeaderVotedOut(_message.Message):
        __slots__ = ("round", "term", "voter", "votes", "followers")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        TERM_FIELD_NUMBER: _ClassVar[int]
        VOTER_FIELD_NUMBER: _ClassVar[int]
        VOTES_FIELD_NUMBER: _ClassVar[int]
        FOLLOWERS_FIELD_NUMBER: _ClassVar[int]
        round: int
        term: int
        voter: str
        votes: int
        followers: int
        def __init__(self, round: _Optional[int] = ..., term: _Optional[int] = ..., voter: _Optional[str] = ..., votes: _Optional[int] = ..., followers: _Optional[int] = ...) -> None: ...
    class LeaderDeposed(_message.Message):
        __slots__ = ("round", "term", "leader")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        TERM_FIELD_NUMBER: _ClassVar[int]
        LEADER_FIELD_NUMBER: _ClassVar[int]
        round: int
        term: int
        leader: str
        def __init__(self, round: _Optional[int] = ..., term: _Optional[int] = ..., leader: _Optional[str] = ...) -> None: ...
    class LeftOut(_message.Message):
        __slots__ = ("round", "term", "name", "reason", "not_finite")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        TERM_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        NOT_FINITE_FIELD_NUMBER: _ClassVar[int]
        round: int
        term: int
        name: str
        reason: str
        not_finite: bool
        def __init__(self, round: _Optional[int] = ..., term: _Optional[int] = ..., name: _Optional[str] = ..., reason: _Optional[str] = ..., not_finite: _Optional[bool] = ...) -> None: ...
    class RoundReopened(_message.Message):
        __slots__ = ("round", "term", "have", "need")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        TERM_FIELD_NUMBER: _ClassVar[int]
        HAVE_FIELD_NUMBER: _ClassVar[int]
        NEED_FIELD_NUMBER: _ClassVar[int]
        round: int
        term: int
        have: int
        need: int
        def __init__(self, round: _Optional[int] = ..., term: _Optional[int] = ..., have: _Optional[int] = ..., need: _Optional[int] = ...) -> None: ...
    class RoundAccepted(_message.Message):
        __slots__ = ("round", "term", "leader", "digest", "size", "participants")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        TERM_FIELD_NUMBER: _ClassVar[int]
        LEADER_FIELD_NUMBER: _ClassVar[int]
        DIGEST_FIELD_NUMBER: _ClassVar[int]
        SIZE_FIELD_NUMBER: _ClassVar[int]
        PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
        round: int
        term: int
        leader: str
        digest: bytes
        size: int
        participants: int
        def __init__(self, round: _Optional[int] = ..., term: _Optional[int] = ..., leader: _Optional[str] = ..., digest: _Optional[bytes] = ..., size: _Optional[int] = ..., participants: _Optional[int] = ...) -> None: ...
    class Completed(_message.Message):
        __slots__ = ("round", "digest")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        DIGEST_FIELD_NUMBER: _ClassVar[int]
        round: int
        digest: bytes
        def __init__(self, round: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...
    class Reported(_message.Message):
        __slots__ = ("round", "name", "loss", "metric", "epochs_done", "epochs_total")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        LOSS_FIELD_NUMBER: _ClassVar[int]
        METRIC_FIELD_NUMBER: _ClassVar[int]
        EPOCHS_DONE_FIELD_NUMBER: _ClassVar[int]
        EPOCHS_TOTAL_FIELD_NUMBER: _ClassVar[int]
        round: int
        name: str
        loss: float
        metric: float
        epochs_done: int
        epochs_total: int
        def __init__(self, round: _Optional[int] = ..., name: _Optional[str] = ..., loss: _Optional[float] = ..., metric: _Optional[float] = ..., epochs_done: _Optional[int] = ..., epochs_total: _Optional[int] = ...) -> None: ...
    class IntervalChosen(_message.Message):
        __slots__ = ("round", "interval", "reason", "mean_loss", "earlier_loss")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        INTERVAL_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        MEAN_LOSS_FIELD_NUMBER: _ClassVar[int]
        EARLIER_LOSS_FIELD_NUMBER: _ClassVar[int]
        round: int
        interval: int
        reason: int
        mean_loss: float
        earlier_loss: float
        def __init__(self, round: _Optional[int] = ..., interval: _Optional[int] = ..., reason: _Optional[int] = ..., mean_loss: _Optional[float] = ..., earlier_loss: _Optional[float] = ...) -> None: ...
    class BestMerged(_message.Message):
        __slots__ = ("round", "mean_metric")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        MEAN_METRIC_FIELD_NUMBER: _ClassVar[int]
        round: int
        mean_metric: float
        def __init__(self, round: _Optional[int] = ..., mean_metric: _Optional[float] = ...) -> None: ...
    class StoppedEarly(_message.Message):
        __slots__ = ("round", "best_round", "patience")
        ROUND_FIELD_NUMBER: _ClassVar[int]
        BEST_ROUND_FIELD_NUMBER: _ClassVar[int]
        PATIENCE_FIELD_NUMBER: _ClassVar[int]
        round: int
        best_round: int
        patience: int
        def __init__(self, round: _Optional[int] = ..., best_round: _Optional[int] = ..., patience: _Optional[int] = ...) -> None: ...
    class Left(_message.Message):
        __slots__ = ("name", "reason", "round")
        NAME_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        ROUND_FIELD_NUMBER: _ClassVar[int]
        name: str
        reason: str
        round: int
        def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ..., round: _Optional[int] = ...) -> None: ...
    class Reset(_message.Message):
        __slots__ = ("next_round",)
        NEXT_ROUND_FIELD_NUMBER: _ClassVar[int]
        next_round: int
        def __init__(self, next_round: _Optional[int] = ...) -> None: ...
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_AGREED_FIELD_NUMBER: _ClassVar[int]
    CHECKED_IN_FIELD_NUMBER: _ClassVar[int]
    MERGE_STARTED_FIELD_NUMBER: _ClassVar[int]
    LEADER_VOTED_OUT_FIELD_NUMBER: _ClassVar[int]
    LEADER_DEPOSED_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    ROUND_REOPENED_FIELD_NUMBER: _ClassVar[int]
    ROUND_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_CHOSEN_FIELD_NUMBER: _ClassVar[int]
    BEST_MERGED_FIELD_NUMBER: _ClassVar[int]
    STOPPED_EARLY_FIELD_NUMBER: _ClassVar[int]
    block: int
    log_index: int
    configured: RecordEvent.Configured
    enrolled: RecordEvent.Enrolled
    layout_agreed: RecordEvent.LayoutAgreed
    checked_in: RecordEvent.CheckedIn
    merge_started: RecordEvent.MergeStarted
    leader_voted_out: RecordEvent.LeaderVotedOut
    leader_deposed: RecordEvent.LeaderDeposed
    left_out: RecordEvent.LeftOut
    round_reopened: RecordEvent.RoundReopened
    round_accepted: RecordEvent.RoundAccepted
    completed: RecordEvent.Completed
    reported: RecordEvent.Reported
    left: RecordEvent.Left
    reset: RecordEvent.Reset
    interval_chosen: RecordEvent.IntervalChosen
    best_merged: RecordEvent.BestMerged
    stopped_early: RecordEvent.StoppedEarly
    def __init__(self, block: _Optional[int] = ..., log_index: _Optional[int] = ..., configured: _Optional[_Union[RecordEvent.Configured, _Mapping]] = ..., enrolled: _Optional[_Union[RecordEvent.Enrolled, _Mapping]] = ..., layout_agreed: _Optional[_Union[RecordEvent.LayoutAgreed, _Mapping]] = ..., checked_in: _Optional[_Union[RecordEvent.CheckedIn, _Mapping]] = ..., merge_started: _Optional[_Union[RecordEvent.MergeStarted, _Mapping]] = ..., leader_voted_out: _Optional[_Union[RecordEvent.LeaderVotedOut, _Mapping]] = ..., leader_deposed: _Optional[_Union[RecordEvent.LeaderDeposed, _Mapping]] = ..., left_out: _Optional[_Union[RecordEvent.LeftOut, _Mapping]] = ..., round_reopened: _Optional[_Union[RecordEvent.RoundReopened, _Mapping]] = ..., round_accepted: _Optional[_Union[RecordEvent.RoundAccepted, _Mapping]] = ..., completed: _Optional[_Union[RecordEvent.Completed, _Mapping]] = ..., reported: _Optional[_Union[RecordEvent.Reported, _Mapping]] = ..., left: _Optional[_Union[RecordEvent.Left, _Mapping]] = ..., reset: _Optional[_Union[RecordEvent.Reset, _Mapping]] = ..., interval_chosen: _Optional[_Union[RecordEvent.IntervalChosen, _Mapping]] = ..., best_merged: _Optional[_Union[RecordEvent.BestMerged, _Mapping]] = ..., stopped_early: _Optional[_Union[RecordEvent.StoppedEarly, _Mapping]] = ...) -> None: ...

class RecordPage(_message.Message):
    __slots__ = ("location", "block", "events")
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    location: str
    block: int
    events: _containers.RepeatedCompositeFieldContainer[RecordEvent]
    def __init__(self, location: _Optional[str] = ..., block: _Optional[int] = ..., events: _Optional[_Iterable[_Union[RecordEvent, _Mapping]]] = ...) -> None: ...

class ProposeOrganizationRequest(_message.Message):
    __slots__ = ("name", "cas")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    cas: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, name: _Optional[str] = ..., cas: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProposeRemovalRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ApproveRequest(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class WithdrawRequest(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class WithdrawReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExpelRequest(_message.Message):
    __slots__ = ("role", "name")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    role: str
    name: str
    def __init__(self, role: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ExpelReply(_message.Message):
    __slots__ = ("vote",)
    VOTE_FIELD_NUMBER: _ClassVar[int]
    vote: VoteReply
    def __init__(self, vote: _Optional[_Union[VoteReply, _Mapping]] = ...) -> None: ...

class VoteReply(_message.Message):
    __slots__ = ("proposal", "votes_needed")
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    VOTES_NEEDED_FIELD_NUMBER: _ClassVar[int]
    proposal: Proposal
    votes_needed: int
    def __init__(self, proposal: _Optional[_Union[Proposal, _Mapping]] = ..., votes_needed: _Optional[int] = ...) -> None: ...

class ReplaceKeyRequest(_message.Message):
    __slots__ = ("role", "name", "fingerprint")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    role: str
    name: str
    fingerprint: bytes
    def __init__(self, role: _Optional[str] = ..., name: _Optional[str] = ..., fingerprint: _Optional[bytes] = ...) -> None: ...

class ReplaceKeyReply(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateContractRequest(_message.Message):
    __slots__ = ("name", "organizations")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    organizations: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., organizations: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateContractReply(_message.Message):
    __slots__ = ("location",)
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    location: str
    def __init__(self, location: _Optional[str] = ...) -> None: ...

class ResetContractRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ResetContractReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TaskHeader(_message.Message):
    __slots__ = ("name", "type", "author", "prereq", "outcome")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    PREREQ_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    author: str
    prereq: str
    outcome: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., author: _Optional[str] = ..., prereq: _Optional[str] = ..., outcome: _Optional[str] = ...) -> None: ...

class TaskEntry(_message.Message):
    __slots__ = ("header", "finalized", "registrant", "fingerprint", "body_hash", "content_hash", "body_size", "created_at")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    FINALIZED_FIELD_NUMBER: _ClassVar[int]
    REGISTRANT_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    BODY_HASH_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    BODY_SIZE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    header: TaskHeader
    finalized: bool
    registrant: str
    fingerprint: bytes
    body_hash: bytes
    content_hash: bytes
    body_size: int
    created_at: float
    def __init__(self, header: _Optional[_Union[TaskHeader, _Mapping]] = ..., finalized: _Optional[bool] = ..., registrant: _Optional[str] = ..., fingerprint: _Optional[bytes] = ..., body_hash: _Optional[bytes] = ..., content_hash: _Optional[bytes] = ..., body_size: _Optional[int] = ..., created_at: _Optional[float] = ...) -> None: ...

class CreateTaskRequest(_message.Message):
    __slots__ = ("header", "body", "finalize")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    FINALIZE_FIELD_NUMBER: _ClassVar[int]
    header: TaskHeader
    body: str
    finalize: bool
    def __init__(self, header: _Optional[_Union[TaskHeader, _Mapping]] = ..., body: _Optional[str] = ..., finalize: _Optional[bool] = ...) -> None: ...

class CreateTaskReply(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: TaskEntry
    def __init__(self, task: _Optional[_Union[TaskEntry, _Mapping]] = ...) -> None: ...

class SetTaskBodyRequest(_message.Message):
    __slots__ = ("name", "expected_hash", "body")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_HASH_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    name: str
    expected_hash: bytes
    body: str
    def __init__(self, name: _Optional[str] = ..., expected_hash: _Optional[bytes] = ..., body: _Optional[str] = ...) -> None: ...

class SetTaskBodyReply(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: TaskEntry
    def __init__(self, task: _Optional[_Union[TaskEntry, _Mapping]] = ...) -> None: ...

class FinalizeTaskRequest(_message.Message):
    __slots__ = ("name", "expected_hash")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_HASH_FIELD_NUMBER: _ClassVar[int]
    name: str
    expected_hash: bytes
    def __init__(self, name: _Optional[str] = ..., expected_hash: _Optional[bytes] = ...) -> None: ...

class FinalizeTaskReply(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: TaskEntry
    def __init__(self, task: _Optional[_Union[TaskEntry, _Mapping]] = ...) -> None: ...

class DeleteTaskRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteTaskReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTasksRequest(_message.Message):
    __slots__ = ("page_token",)
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_token: str
    def __init__(self, page_token: _Optional[str] = ...) -> None: ...

class ListTasksReply(_message.Message):
    __slots__ = ("tasks", "next_page_token")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[TaskEntry]
    next_page_token: str
    def __init__(self, tasks: _Optional[_Iterable[_Union[TaskEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetTaskRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetTaskReply(_message.Message):
    __slots__ = ("task", "body")
    TASK_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    task: TaskEntry
    body: str
    def __init__(self, task: _Optional[_Union[TaskEntry, _Mapping]] = ..., body: _Optional[str] = ...) -> None: ...

class TaskAgent(_message.Message):
    __slots__ = ("name", "group", "sl_peers", "attends", "present", "enrolled_in", "enrolled_peers", "released", "last_seen", "fingerprint", "admissible")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SL_PEERS_FIELD_NUMBER: _ClassVar[int]
    ATTENDS_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_IN_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_PEERS_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ADMISSIBLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    group: str
    sl_peers: int
    attends: bool
    present: bool
    enrolled_in: int
    enrolled_peers: int
    released: int
    last_seen: float
    fingerprint: bytes
    admissible: bool
    def __init__(self, name: _Optional[str] = ..., group: _Optional[str] = ..., sl_peers: _Optional[int] = ..., attends: _Optional[bool] = ..., present: _Optional[bool] = ..., enrolled_in: _Optional[int] = ..., enrolled_peers: _Optional[int] = ..., released: _Optional[int] = ..., last_seen: _Optional[float] = ..., fingerprint: _Optional[bytes] = ..., admissible: _Optional[bool] = ...) -> None: ...

class TaskPeer(_message.Message):
    __slots__ = ("agent", "index", "name", "state", "description", "updated_at")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    index: int
    name: str
    state: PeerState
    description: str
    updated_at: float
    def __init__(self, agent: _Optional[str] = ..., index: _Optional[int] = ..., name: _Optional[str] = ..., state: _Optional[_Union[PeerState, str]] = ..., description: _Optional[str] = ..., updated_at: _Optional[float] = ...) -> None: ...

class RunnerStatus(_message.Message):
    __slots__ = ("runner", "location", "version", "block", "state", "assignment", "task", "task_type", "content_hash", "assigned_by", "targets", "peers_needed", "agents", "peers", "assigned_at", "started_at", "ended_at")
    RUNNER_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TASK_TYPE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_BY_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    PEERS_NEEDED_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    runner: str
    location: str
    version: int
    block: int
    state: RunnerState
    assignment: int
    task: str
    task_type: str
    content_hash: bytes
    assigned_by: str
    targets: _containers.RepeatedScalarFieldContainer[str]
    peers_needed: int
    agents: _containers.RepeatedCompositeFieldContainer[TaskAgent]
    peers: _containers.RepeatedCompositeFieldContainer[TaskPeer]
    assigned_at: float
    started_at: float
    ended_at: float
    def __init__(self, runner: _Optional[str] = ..., location: _Optional[str] = ..., version: _Optional[int] = ..., block: _Optional[int] = ..., state: _Optional[_Union[RunnerState, str]] = ..., assignment: _Optional[int] = ..., task: _Optional[str] = ..., task_type: _Optional[str] = ..., content_hash: _Optional[bytes] = ..., assigned_by: _Optional[str] = ..., targets: _Optional[_Iterable[str]] = ..., peers_needed: _Optional[int] = ..., agents: _Optional[_Iterable[_Union[TaskAgent, _Mapping]]] = ..., peers: _Optional[_Iterable[_Union[TaskPeer, _Mapping]]] = ..., assigned_at: _Optional[float] = ..., started_at: _Optional[float] = ..., ended_at: _Optional[float] = ...) -> None: ...

class CreateRunnerRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class CreateRunnerReply(_message.Message):
    __slots__ = ("location",)
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    location: str
    def __init__(self, location: _Optional[str] = ...) -> None: ...

class AssignTaskRequest(_message.Message):
    __slots__ = ("runner", "task", "peers", "all_peers", "target")
    RUNNER_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    ALL_PEERS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    runner: str
    task: str
    peers: int
    all_peers: bool
    target: str
    def __init__(self, runner: _Optional[str] = ..., task: _Optional[str] = ..., peers: _Optional[int] = ..., all_peers: _Optional[bool] = ..., target: _Optional[str] = ...) -> None: ...

class AssignTaskReply(_message.Message):
    __slots__ = ("assignment", "peers_needed")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    PEERS_NEEDED_FIELD_NUMBER: _ClassVar[int]
    assignment: int
    peers_needed: int
    def __init__(self, assignment: _Optional[int] = ..., peers_needed: _Optional[int] = ...) -> None: ...

class ResetRunnerRequest(_message.Message):
    __slots__ = ("runner",)
    RUNNER_FIELD_NUMBER: _ClassVar[int]
    runner: str
    def __init__(self, runner: _Optional[str] = ...) -> None: ...

class ResetRunnerReply(_message.Message):
    __slots__ = ("assignment",)
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    assignment: int
    def __init__(self, assignment: _Optional[int] = ...) -> None: ...

class ListRunnersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRunnersReply(_message.Message):
    __slots__ = ("runners",)
    RUNNERS_FIELD_NUMBER: _ClassVar[int]
    runners: _containers.RepeatedCompositeFieldContainer[ContractEntry]
    def __init__(self, runners: _Optional[_Iterable[_Union[ContractEntry, _Mapping]]] = ...) -> None: ...

class GetRunnerRequest(_message.Message):
    __slots__ = ("runner",)
    RUNNER_FIELD_NUMBER: _ClassVar[int]
    runner: str
    def __init__(self, runner: _Optional[str] = ...) -> None: ...

class GetPeerRequest(_message.Message):
    __slots__ = ("runner", "agent", "index")
    RUNNER_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    runner: str
    agent: str
    index: int
    def __init__(self, runner: _Optional[str] = ..., agent: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...

class WatchRunnerRequest(_message.Message):
    __slots__ = ("runner", "seen")
    RUNNER_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    runner: str
    seen: int
    def __init__(self, runner: _Optional[str] = ..., seen: _Optional[int] = ...) -> None: ...

class AttendRequest(_message.Message):
    __slots__ = ("runner", "group", "sl_peers")
    RUNNER_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SL_PEERS_FIELD_NUMBER: _ClassVar[int]
    runner: str
    group: str
    sl_peers: int
    def __init__(self, runner: _Optional[str] = ..., group: _Optional[str] = ..., sl_peers: _Optional[int] = ...) -> None: ...

class AttendReply(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: RunnerStatus
    def __init__(self, status: _Optional[_Union[RunnerStatus, _Mapping]] = ...) -> None: ...

class QuitRequest(_message.Message):
    __slots__ = ("runner", "reason")
    RUNNER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    runner: str
    reason: str
    def __init__(self, runner: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class QuitReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnrolInTaskRequest(_message.Message):
    __slots__ = ("runner", "assignment", "peers")
    RUNNER_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    runner: str
    assignment: int
    peers: int
    def __init__(self, runner: _Optional[str] = ..., assignment: _Optional[int] = ..., peers: _Optional[int] = ...) -> None: ...

class EnrolInTaskReply(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: RunnerStatus
    def __init__(self, status: _Optional[_Union[RunnerStatus, _Mapping]] = ...) -> None: ...

class ReportPeerRequest(_message.Message):
    __slots__ = ("runner", "assignment", "index", "name", "state", "description")
    RUNNER_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    runner: str
    assignment: int
    index: int
    name: str
    state: PeerState
    description: str
    def __init__(self, runner: _Optional[str] = ..., assignment: _Optional[int] = ..., index: _Optional[int] = ..., name: _Optional[str] = ..., state: _Optional[_Union[PeerState, str]] = ..., description: _Optional[str] = ...) -> None: ...

class ReportPeerReply(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: RunnerStatus
    def __init__(self, status: _Optional[_Union[RunnerStatus, _Mapping]] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("runner", "assignment")
    RUNNER_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    runner: str
    assignment: int
    def __init__(self, runner: _Optional[str] = ..., assignment: _Optional[int] = ...) -> None: ...

class ReleaseReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: str
    def __init__(self, account: _Optional[str] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("name", "genesis", "chain_id", "network_contract", "block", "sns")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GENESIS_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    NETWORK_CONTRACT_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    SNS_FIELD_NUMBER: _ClassVar[int]
    name: str
    genesis: str
    chain_id: int
    network_contract: str
    block: int
    sns: _containers.RepeatedCompositeFieldContainer[SnAddress]
    def __init__(self, name: _Optional[str] = ..., genesis: _Optional[str] = ..., chain_id: _Optional[int] = ..., network_contract: _Optional[str] = ..., block: _Optional[int] = ..., sns: _Optional[_Iterable[_Union[SnAddress, _Mapping]]] = ...) -> None: ...

class SnAddress(_message.Message):
    __slots__ = ("name", "host", "port")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    name: str
    host: str
    port: int
    def __init__(self, name: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class PeerNews(_message.Message):
    __slots__ = ("hello", "welcome", "standing", "transaction", "seen")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    hello: PeerHello
    welcome: PeerWelcome
    standing: PeerStanding
    transaction: bytes
    seen: PeerSeen
    def __init__(self, hello: _Optional[_Union[PeerHello, _Mapping]] = ..., welcome: _Optional[_Union[PeerWelcome, _Mapping]] = ..., standing: _Optional[_Union[PeerStanding, _Mapping]] = ..., transaction: _Optional[bytes] = ..., seen: _Optional[_Union[PeerSeen, _Mapping]] = ...) -> None: ...

class PeerSeen(_message.Message):
    __slots__ = ("name", "host", "port")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    name: str
    host: str
    port: int
    def __init__(self, name: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class PeerHello(_message.Message):
    __slots__ = ("name", "chain_id", "account", "enode", "host", "port", "genesis")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ENODE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    GENESIS_FIELD_NUMBER: _ClassVar[int]
    name: str
    chain_id: int
    account: str
    enode: str
    host: str
    port: int
    genesis: bytes
    def __init__(self, name: _Optional[str] = ..., chain_id: _Optional[int] = ..., account: _Optional[str] = ..., enode: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., genesis: _Optional[bytes] = ...) -> None: ...

class PeerWelcome(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PeerStanding(_message.Message):
    __slots__ = ("total_difficulty", "attestation")
    TOTAL_DIFFICULTY_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_FIELD_NUMBER: _ClassVar[int]
    total_difficulty: int
    attestation: Attestation
    def __init__(self, total_difficulty: _Optional[int] = ..., attestation: _Optional[_Union[Attestation, _Mapping]] = ...) -> None: ...

class Attestation(_message.Message):
    __slots__ = ("number", "hash", "floor")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    number: int
    hash: str
    floor: int
    def __init__(self, number: _Optional[int] = ..., hash: _Optional[str] = ..., floor: _Optional[int] = ...) -> None: ...

class GetBlocksRequest(_message.Message):
    __slots__ = ("since",)
    SINCE_FIELD_NUMBER: _ClassVar[int]
    since: int
    def __init__(self, since: _Optional[int] = ...) -> None: ...

class BlocksPage(_message.Message):
    __slots__ = ("blocks",)
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    blocks: bytes
    def __init__(self, blocks: _Optional[bytes] = ...) -> None: ...
