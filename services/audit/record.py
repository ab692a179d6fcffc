"""A training as its record tells it: plain data, round by round."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from services.rpc import swarm_pb2 as pb
from services.rpc.swarm_pb2 import RoundState

# What became of a check-in: it stands, was merged, was left out by a leader, or went with its node.
Fate = Literal["in", "merged", "left out", "withdrawn"]
Ending = Literal["", "accepted", "deposed", "reopened"]


class RecordPosition(NamedTuple):
    """Where on the chain an event stands; later ones compare greater."""

    block: int
    log_index: int


@dataclass(slots=True)
class Contribution:
    """One check-in. ``digest``: 64 hex digits; ``size``: bytes. ``staleness``: of what it was trained from."""

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
    """One leader's turn. ``participants``: how many check-ins it was to merge."""

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
    """Loss and metric of the round's model on a node's own validation data; None: there is no value."""

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
    """``absent``: participants that were active when the round was accepted, and not in it."""

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
        """The check-ins that are in, or were merged, by name."""
        return {entry.name: entry for entry in self.check_ins if entry.fate in ("in", "merged")}

    @property
    def merged(self) -> list[Contribution]:
        return [entry for entry in self.check_ins if entry.fate == "merged"]


@dataclass
class Enrolment:
    """``fingerprint``: of the public key, hex. ``left``: why it left, empty while it is active."""

    name: str
    fingerprint: str
    may_lead: bool
    at: RecordPosition
    active: bool = True
    left: str = ""


@dataclass
class Record:
    """``problems``: where the record contradicts the rules of a round; a sound one has none.

    ``count``: how many events it has. ``others``: those that ``rounds`` do not tell in full. ``organizations``: whose
    CA has named a participant, by its name, where the SN that admitted it has a trust file.
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
        """The newest accepted round; its model is the final one where the training is complete."""
        accepted = [entry for entry in self.rounds.values() if entry.result is not None]
        return accepted[-1] if accepted else None
