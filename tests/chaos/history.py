"""What a run leaves: everything that was seen, as plain data that can be saved and checked again."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from google.protobuf.json_format import MessageToDict

from services.rpc import swarm_pb2 as pb

FILE = "history.json"


@dataclass(frozen=True)
class Event:
    """One event of the chain. ``at``: block and log index. ``kind``: as in TrainingContract.sol."""

    at: tuple[int, int]
    kind: str
    facts: dict[str, Any]

    @classmethod
    def of(cls, event: pb.RecordEvent) -> Self:
        field_name = event.WhichOneof("event")
        message = getattr(event, field_name)
        return cls((event.block, event.log_index), type(message).__name__, plain(message))


@dataclass(frozen=True)
class Seen:
    """A state that an SN showed. ``t``: seconds, monotonic. ``result``: (round, digest), or None."""

    t: float
    sn: str
    version: int
    state: str
    round: int
    term: int
    leader: str
    result: tuple[int, str] | None
    active: tuple[str, ...]
    checked_in: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, t: float, sn: str, status: pb.TrainingStatus) -> Self:
        last = status.last_result if status.HasField("last_result") else None
        return cls(
            t=t,
            sn=sn,
            version=status.version,
            state=pb.RoundState.Name(status.state),
            round=status.round,
            term=status.term,
            leader=status.leader,
            result=(last.round, last.digest.hex()) if last else None,
            active=tuple(who.name for who in status.participants if who.active),
            checked_in=tuple(entry.name for entry in status.check_ins),
            left_out=tuple(entry.name for entry in (*status.left_out, *(last.left_out if last else ()))),
        )


@dataclass(frozen=True)
class Diary:
    """One line of an ML program; see tests.chaos.trainer."""

    t: float
    node: str
    pid: int
    did: str
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, line: dict[str, Any]) -> Self:
        known = {key: line.pop(key) for key in ("t", "node", "pid", "did")}
        return cls(**known, facts=line)


@dataclass(frozen=True)
class Exit:
    """The end of a process. ``expected``: the fault meant it to end so."""

    t: float
    node: str
    part: str
    code: int
    expected: bool
    tail: str = ""


@dataclass(frozen=True)
class FalseResult:
    """What a leader published although no node has it."""

    leader: str
    round: int
    term: int
    digest: str


@dataclass
class Injected:
    """One fault as it went. ``t``: when it took effect; ``recovered_t``: of the first round accepted after it."""

    kind: str
    t: float = 0.0
    hit: str = ""
    allowed_s: float = 0.0
    round: int = 0
    recovered_t: float = 0.0
    may_depose: bool = True
    may_leave_out: bool = True
    rogue_digests: list[str] = field(default_factory=list)
    false_results: list[FalseResult] = field(default_factory=list)

    @property
    def recovery_s(self) -> float:
        return self.recovered_t - self.t


@dataclass
class History:
    """``chain``: events as read from geth; ``records``: as each SN's audit record has them,
    which holds all up to its block in ``record_blocks``. ``run``: its directory.
    ``restarts``: when which SN was started again. ``first_keys``: of a key that has replaced others, the first one.
    """

    seed: str
    plan: dict[str, Any]
    run: str = ""
    min_peers: int = 0
    nodes: list[str] = field(default_factory=list)
    chain: list[Event] = field(default_factory=list)
    records: dict[str, list[Event]] = field(default_factory=dict)
    restarts: list[tuple[float, str]] = field(default_factory=list)
    first_keys: dict[str, str] = field(default_factory=dict)
    record_blocks: dict[str, int] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    diaries: list[Diary] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    faults: list[Injected] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, directory: Path) -> Self:
        data = json.loads((directory / FILE).read_text())
        data["chain"] = _events(data["chain"])
        data["records"] = {sn: _events(events) for sn, events in data["records"].items()}
        data["seen"] = [_seen(entry) for entry in data["seen"]]
        data["diaries"] = [Diary(**entry) for entry in data["diaries"]]
        data["exits"] = [Exit(**entry) for entry in data["exits"]]
        data["restarts"] = [(t, sn) for t, sn in data["restarts"]]
        data["faults"] = [_injected(entry) for entry in data["faults"]]
        return cls(**data)


def plain(message: Any) -> dict[str, Any]:
    """A message with its own field names; bytes as hex, 64-bit numbers as numbers."""
    values = {}
    for descriptor in message.DESCRIPTOR.fields:
        value = getattr(message, descriptor.name)
        if isinstance(value, bytes):
            values[descriptor.name] = value.hex()
        elif descriptor.message_type is not None:
            values[descriptor.name] = MessageToDict(value, preserving_proto_field_name=True)
        else:
            values[descriptor.name] = value
    return values


def _events(entries: Iterable[dict[str, Any]]) -> list[Event]:
    return [Event(tuple(entry["at"]), entry["kind"], entry["facts"]) for entry in entries]


def _injected(entry: dict[str, Any]) -> Injected:
    false = [FalseResult(**result) for result in entry.get("false_results", [])]
    return Injected(**{**entry, "false_results": false})


def _seen(entry: dict[str, Any]) -> Seen:
    lists = {name: tuple(entry[name]) for name in ("active", "checked_in", "left_out")}
    return Seen(**{**entry, **lists, "result": tuple(entry["result"]) if entry["result"] else None})
