"""The round as the chain must tell it: a pure step from state to state, one event at a time.

The third statement of the same rules, after the contract and the SL's state machine, and the one that judges both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.chaos.history import Event


class Illegal(Exception):
    """An event that must not follow. ``invariant``: which promise it breaks."""

    def __init__(self, invariant: str, problem: str) -> None:
        super().__init__(f"{invariant}: {problem}")


@dataclass(frozen=True)
class Member:
    fingerprint: str
    may_lead: bool
    active: bool = True


@dataclass(frozen=True)
class Entry:
    """A check-in that stands. ``base``: the newest accepted round when it was made. ``staleness``: how many rounds
    before that the one is whose result it was trained from.
    """

    digest: str
    size: int
    weight: int
    finished: bool
    base: int
    staleness: int = 0


@dataclass(frozen=True)
class Accepted:
    digest: str
    size: int
    term: int
    leader: str
    merged: Mapping[str, Entry]


@dataclass(frozen=True)
class State:
    """``members`` in the order of enrolment. ``phase`` is DEPOSED between a leader's fall and what follows from it.

    ``first_keys``: of a key that has replaced others, the first one.
    """

    phase: str = "UNCONFIGURED"
    round: int = 1
    term: int = 0
    leader: str = ""
    min_peers: int = 0
    first_merge: str = "average"
    layout: str = ""
    members: Mapping[str, Member] = field(default_factory=dict)
    check_ins: Mapping[str, Entry] = field(default_factory=dict)
    votes: frozenset[str] = frozenset()
    accepted: Mapping[int, Accepted] = field(default_factory=dict)
    first_keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def last(self) -> int:
        return max(self.accepted, default=0)

    @property
    def active(self) -> list[str]:
        return [name for name, member in self.members.items() if member.active]

    @property
    def eligible(self) -> list[str]:
        return [name for name in self.active if name in self.check_ins and self.members[name].may_lead]

    @property
    def followers(self) -> list[str]:
        return [name for name in self.active if name in self.check_ins and name != self.leader]

    @property
    def outvoted(self) -> bool:
        return 2 * len(self.votes.intersection(self.followers)) > len(self.followers)


def states(events: Iterable[Event], first_keys: Mapping[str, str]) -> list[State]:
    """The state before the first event and after each. Raises Illegal, naming the event."""
    found = [State(first_keys=first_keys)]
    for event in events:
        try:
            found.append(step(found[-1], event))
        except Illegal as error:
            raise Illegal(*_at(error, event)) from None
    return found


def step(state: State, event: Event) -> State:
    """What follows from an event. Raises Illegal where it must not happen in this state."""
    return _RULES[event.kind](state, event.facts)


def _at(error: Illegal, event: Event) -> tuple[str, str]:
    invariant, _, problem = str(error).partition(": ")
    return invariant, f"{problem} ({event.kind} at block {event.at[0]}, log {event.at[1]})"


def _require(holds: bool, invariant: str, problem: str) -> None:
    if not holds:
        raise Illegal(invariant, problem)


# --- in the order of a training's life ---------------------------------------------------------------------------


def _configured(state: State, facts: Mapping[str, Any]) -> State:
    empty = state.phase == "UNCONFIGURED" or (not state.active and not state.accepted)
    _require(empty, "I3", "a training in use is configured anew")
    config = facts["config"]
    first = config.get("first_merge", "average")
    return replace(state, phase="CHECKIN", min_peers=int(config["min_peers"]), first_merge=first, layout="")


def _enrolled(state: State, facts: Mapping[str, Any]) -> State:
    _require(state.phase in {"CHECKIN", "MERGE"}, "I3", f"{facts['name']} enrols in a training that is {state.phase}")
    known = state.members.get(facts["name"])
    first, key = state.first_keys, facts["fingerprint"]
    same = known is None or first.get(known.fingerprint, known.fingerprint) == first.get(key, key)
    _require(same, "I3", f"{facts['name']} enrols under another key")
    member = Member(facts["fingerprint"], facts["may_lead"])
    return replace(state, members={**state.members, facts["name"]: member})


def _layout_agreed(state: State, facts: Mapping[str, Any]) -> State:
    _require(not state.layout, "I3", "the layout is agreed twice")
    return replace(state, layout=facts["layout"])


def _checked_in(state: State, facts: Mapping[str, Any]) -> State:
    name = facts["name"]
    _require(facts["round"] == state.round, "I3", f"{name} checks in to round {facts['round']}, not {state.round}")
    _require(state.phase == "CHECKIN", "I3", f"{name} checks in to a round that is closed")
    _require(name in state.active, "I3", f"{name} checks in without being enrolled")
    _require(name not in state.check_ins, "I3", f"{name} checks in twice")
    stale = facts.get("staleness", 0)
    _require(stale < state.last or not stale, "I3", f"{name} checks in with what is {stale} rounds stale")
    entry = Entry(facts["digest"], facts["size"], facts["weight"], facts["finished"], state.last, stale)
    return replace(state, check_ins={**state.check_ins, name: entry})


def _merge_started(state: State, facts: Mapping[str, Any]) -> State:
    _current(state, facts, "CHECKIN", "DEPOSED")
    have, term = len(state.check_ins), state.term + 1
    _require(have >= state.min_peers, "I4", f"a merge of {have} starts below {state.min_peers}")
    _require(facts["participants"] == have, "I3", f"{facts['participants']} are to be merged, and {have} are in")
    _require(facts["term"] == term, "I1", f"term {facts['term']} follows term {state.term}")
    _require(bool(state.eligible), "I1", "a merge starts that nobody may lead")
    leader = state.eligible[(state.round + term) % len(state.eligible)]
    _require(facts["leader"] == leader, "I1", f"{facts['leader']} leads where it is the turn of {leader}")
    return replace(state, phase="MERGE", term=term, leader=leader, votes=frozenset())


def _voted_out(state: State, facts: Mapping[str, Any]) -> State:
    _current(state, facts, "MERGE", term=True)
    voter = facts["voter"]
    _require(voter in state.followers and voter not in state.votes, "I1", f"{voter} votes and may not")
    return replace(state, votes=state.votes | {voter})


def _deposed(state: State, facts: Mapping[str, Any]) -> State:
    _current(state, facts, "MERGE", term=True)
    _require(facts["leader"] == state.leader, "I1", f"{facts['leader']} is deposed and does not lead")
    gone = state.leader not in state.active
    _require(gone or state.outvoted, "I1", f"{state.leader} is deposed without a majority and without having left")
    return replace(state, phase="DEPOSED")


def _left_out(state: State, facts: Mapping[str, Any]) -> State:
    _current(state, facts, "MERGE", term=True)
    _require(facts["name"] in state.check_ins, "I3", f"{facts['name']} is left out and was not in")
    rest = {name: entry for name, entry in state.check_ins.items() if name != facts["name"]}
    return replace(state, check_ins=rest)


def _reopened(state: State, facts: Mapping[str, Any]) -> State:
    _current(state, facts, "MERGE", "DEPOSED", term=True)
    rest = {name: entry for name, entry in state.check_ins.items() if state.members[name].active}
    below = len(rest) < state.min_peers or state.phase == "DEPOSED"
    _require(below, "I4", "a round is opened again that could be merged")
    _require(facts["have"] == len(rest), "I3", f"{facts['have']} stay in, and {len(rest)} are left")
    return replace(state, phase="CHECKIN", leader="", check_ins=rest)


def _accepted(state: State, facts: Mapping[str, Any]) -> State:
    _require(facts["round"] not in state.accepted, "I1", f"round {facts['round']} is accepted a second time")
    _current(state, facts, "MERGE", term=True)
    _require(facts["leader"] == state.leader, "I1", f"{facts['leader']} publishes where {state.leader} leads")
    have = len(state.check_ins)
    _require(have >= state.min_peers, "I4", f"{have} were merged, below {state.min_peers}")
    _require(facts["participants"] == have, "I3", f"{facts['participants']} were merged, and {have} are in")
    sizes = {entry.size for entry in state.check_ins.values()}
    _require(sizes == {facts["size"]}, "I3", f"it has {facts['size']} bytes, and is merged of {sorted(sizes)}")
    result = Accepted(facts["digest"], facts["size"], state.term, state.leader, state.check_ins)
    accepted = {**state.accepted, state.round: result}
    following = {"phase": "CHECKIN", "round": state.round + 1, "term": 0, "leader": "", "check_ins": {}}
    return replace(state, accepted=accepted, votes=frozenset(), **following)


def _completed(state: State, facts: Mapping[str, Any]) -> State:
    last = state.accepted.get(state.last)
    right = last is not None and (facts["round"], facts["digest"]) == (state.last, last.digest)
    _require(right, "I2", "the training ends with another model than that of its last round")
    finished = sum(entry.finished for entry in last.merged.values()) if last else 0
    _require(finished >= state.min_peers, "I4", f"the training ends when {finished} of {state.min_peers} have finished")
    waits = [name for name, entry in last.merged.items() if not entry.finished and state.members[name].active]
    _require(not waits, "I4", f"the training ends before {', '.join(waits)} had finished")
    return replace(state, phase="COMPLETE", round=state.last)


def _reported(state: State, facts: Mapping[str, Any]) -> State:
    _require(facts["name"] in state.members, "I3", f"{facts['name']} reports without being enrolled")
    _require(facts["round"] in state.accepted, "I3", f"a report on round {facts['round']}, which has no result")
    return state


def _left(state: State, facts: Mapping[str, Any]) -> State:
    name = facts["name"]
    _require(name in state.active, "I3", f"{name} leaves and was not there")
    members = {**state.members, name: replace(state.members[name], active=False)}
    check_ins = state.check_ins
    if state.phase == "CHECKIN":
        check_ins = {who: entry for who, entry in check_ins.items() if who != name}
    return replace(state, members=members, check_ins=check_ins)


def _current(state: State, facts: Mapping[str, Any], *phases: str, term: bool = False) -> None:
    given = facts["round"]
    _require(given == state.round, "I1", f"it is of round {given}, and round {state.round} runs")
    _require(state.phase in phases, "I1", f"it happens in {state.phase}")
    if term:
        _require(facts["term"] == state.term, "I1", f"it is of term {facts['term']}, and term {state.term} runs")


_RULES = {
    "Configured": _configured,
    "Enrolled": _enrolled,
    "LayoutAgreed": _layout_agreed,
    "CheckedIn": _checked_in,
    "MergeStarted": _merge_started,
    "LeaderVotedOut": _voted_out,
    "LeaderDeposed": _deposed,
    "LeftOut": _left_out,
    "RoundReopened": _reopened,
    "RoundAccepted": _accepted,
    "Completed": _completed,
    "Reported": _reported,
    "Left": _left,
}
