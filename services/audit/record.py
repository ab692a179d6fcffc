"""The record of a training as plain data, round by round."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from services.rpc import swarm_pb2 as pb
from services.rpc.swarm_pb2 import RoundState

# State of a check-in: it counts, was merged, was left out by a leader, or was withdrawn with its node.
Fate = Literal["in", "merged", "left out", "withdrawn"]
Ending = Literal["", "accepted", "deposed", "reopened"]


class RecordPosition(NamedTuple):
    """The place of an event on the chain; later events compare greater."""

    block: int
    log_index: int


@dataclass(slots=True)
class Contribution:
    """One check-in. ``digest``: 64 hex digits; ``size``: bytes. ``staleness``: of its parameters."""

    name: str
    digest: str
    size: int
    weight: int
    finished: bool
    address: str
    at: RecordPosition
    fate: Fate = "in"
    staleness: int = 0


@dataclass(frozen=True, slots=True)
class VoteRecord:
    voter: str
    at: RecordPosition


@dataclass(slots=True)
class Term:
    """The time of one leader. ``participants``: number of check-ins that it had to merge."""

    term: int
    leader: str
    participants: int
    at: RecordPosition
    votes: list[VoteRecord] = field(default_factory=list)
    ended: Ending = ""
    ended_at: RecordPosition | None = None


@dataclass(frozen=True, slots=True)
class ExclusionRecord:
    """A check-in that the leader of ``term`` left out."""

    name: str
    reason: str
    term: int
    at: RecordPosition


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """Loss and metric of the round's model on a node's own validation data; None: no value."""

    name: str
    loss: float | None
    metric: float | None
    epochs_done: int
    epochs_total: int
    at: RecordPosition


@dataclass(frozen=True, slots=True)
class ResultRecord:
    term: int
    leader: str
    digest: str
    size: int
    participants: int
    at: RecordPosition


@dataclass(slots=True)
class RoundRecord:
    """``absent``: participants that were active when the round was accepted, but not in it."""

    number: int
    check_ins: list[Contribution] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    left_out: list[ExclusionRecord] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    result: ResultRecord | None = None
    reports: list[ReportRecord] = field(default_factory=list)
    completed: bool = False

    @property
    def standing(self) -> dict[str, Contribution]:
        """The check-ins that count or were merged, by name."""
        return {entry.name: entry for entry in self.check_ins if entry.fate in ("in", "merged")}

    @property
    def merged(self) -> list[Contribution]:
        return [entry for entry in self.check_ins if entry.fate == "merged"]


@dataclass
class Enrolment:
    """``fingerprint``: of the public key, hex. ``left``: why it left; empty while it is active."""

    name: str
    fingerprint: str
    may_lead: bool
    at: RecordPosition
    active: bool = True
    left: str = ""


@dataclass
class Record:
    """``problems``: where the record contradicts the rules of a round; none if it is sound.

    ``count``: number of its events. ``others``: events that ``rounds`` do not contain in full. ``organizations``: by
    name of participant, the organization whose CA issued its certificate, if its SN has a trust file.
    """

    contract: str
    location: str = ""
    block: int = 0
    state: RoundState = RoundState.UNCONFIGURED
    round: int = 1
    config: pb.Config | None = None
    participants: dict[str, Enrolment] = field(default_factory=dict)
    rounds: dict[int, RoundRecord] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    count: int = 0
    others: list[pb.RecordEvent] = field(default_factory=list)
    organizations: dict[str, str] = field(default_factory=dict)

    @property
    def active(self) -> list[str]:
        return [name for name, who in self.participants.items() if who.active]

    @property
    def final(self) -> RoundRecord | None:
        """The newest accepted round; its model is the final one if the training is complete."""
        accepted = [entry for entry in self.rounds.values() if entry.result is not None]
        return accepted[-1] if accepted else None
