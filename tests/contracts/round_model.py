"""The round as a small model: what TrainingContract must do, said a second time and more simply."""

from dataclasses import dataclass, field

LAST_ROUNDS = 3


class Refused(Exception):
    """The contract's error of this name."""


@dataclass
class Node:
    fingerprint: str
    may_lead: bool = False
    active: bool = False
    report_round: int = 0


@dataclass
class RoundModel:
    """``nodes`` in the order of enrolment; ``check_ins``: name -> (digest, finished, size), of the running round."""

    state: str = "UNCONFIGURED"
    round: int = 1
    term: int = 0
    leader: str = ""
    last_accepted: int = 0
    first_round: int = 1
    config: tuple[int, str] | None = None
    layout: str = ""
    size: int = 0  # that the first result has agreed on
    nodes: dict[str, Node] = field(default_factory=dict)
    check_ins: dict[str, tuple[str, bool, int]] = field(default_factory=dict)
    votes: set[str] = field(default_factory=set)
    results: dict[int, str] = field(default_factory=dict)
    last_rounds: int = 0  # in a row that somebody active was away from while all others had finished

    # --- what a node does ---------------------------------------------------------------------------

    def enrol(self, name: str, fingerprint: str, may_lead: bool, config: tuple[int, str]) -> None:
        self._refuse(self.state == "COMPLETE", "TrainingComplete")
        if self.state == "UNCONFIGURED" or (not self._active() and self.last_accepted == 0):
            self.state, self.config, self.layout = "CHECKIN", config, ""
        self._refuse(config != self.config, "ConfigurationDiffers")
        node = self.nodes.get(name)
        self._refuse(node is not None and node.fingerprint != fingerprint, "NameTaken")
        node = self.nodes.setdefault(name, Node(fingerprint))
        node.may_lead, node.active = may_lead, True
        if self.state == "CHECKIN":
            self._close_if_all_in()

    def check_in(  # noqa: PLR0917 - as in the contract
        self, round_number: int, base: int, name: str, digest: str, layout: str, finished: bool, size: int
    ) -> None:
        self._refuse(self.state == "COMPLETE", "TrainingComplete")
        self._refuse(self.state == "UNCONFIGURED", "NotConfigured")
        self._refuse(round_number != self.round, "StaleRound")
        self._refuse(name not in self._active(), "NotEnrolled")
        if name in self.check_ins:
            self._refuse(self.check_ins[name][0] != digest, "AlreadyCheckedIn")
            return
        self._refuse(self.state != "CHECKIN", "RoundClosed")
        early = self.last_accepted != 0 and base < self.first_round
        self._refuse(base > self.last_accepted or early, "Behind")
        self._refuse(self.layout not in {"", layout}, "ModelDiffers")
        self._refuse(self.size not in {0, size}, "SizeDiffers")
        self.layout = layout
        self.check_ins[name] = (digest, finished, size)
        self._close_if_all_in()

    def vote_out(self, round_number: int, term: int, voter: str) -> None:
        self._fence("MERGE", round_number, term)
        self._refuse(voter not in self._active(), "NotEnrolled")
        self._refuse(voter not in self.check_ins, "NotAParticipant")
        self._refuse(voter == self.leader, "LeaderMayNotVote")
        if voter not in self.votes:
            self.votes.add(voter)
            if self._outvoted():
                self._depose()

    def report(self, round_number: int, name: str) -> None:
        self._refuse(name not in self.nodes, "NotEnrolled")
        known = self.first_round <= round_number <= self.last_accepted
        self._refuse(not known or round_number < self.nodes[name].report_round, "StaleRound")
        self.nodes[name].report_round = round_number

    def leave(self, name: str) -> None:
        self._refuse(name not in self.nodes, "NotEnrolled")
        if name not in self._active():
            return
        self.nodes[name].active = False
        if self.state == "CHECKIN":
            self.check_ins.pop(name, None)
            self._close_if_all_in()
        elif self.state == "MERGE" and (name == self.leader or self._outvoted()):
            self._depose()

    # --- what the leader, the clock and an administrator do -----------------------------------------

    def close_round(self, round_number: int, term: int) -> None:
        self._fence("CHECKIN", round_number)
        self._refuse(term != self.term, "StaleTerm")
        self._refuse(len(self.check_ins) < self._min_peers(), "BelowMinPeers")
        self._refuse(not self._eligible(), "NobodyMayLead")
        self._start_merge()

    def publish(  # noqa: PLR0917 - as in the contract
        self, round_number: int, term: int, leader: str, digest: str, size: int, left_out: list[str]
    ) -> None:
        before = dict(self.check_ins)
        self._leave_out(round_number, term, leader, left_out)
        self._refuse(len(self.check_ins) < self._min_peers(), "BelowMinPeers")
        sizes = {entry[2] for entry in self.check_ins.values()}
        self._refuse(bool(sizes - {size}) or self.size not in {0, size}, "SizeDiffers")
        self.size = size
        self.results[self.round] = digest
        self.last_accepted = self.round
        if self._ends(before):
            self.state = "COMPLETE"
        else:
            self._open(self.round + 1)
        self.term = 0

    def reopen(self, round_number: int, term: int, leader: str, left_out: list[str]) -> None:
        self._leave_out(round_number, term, leader, left_out)
        self._refuse(len(self.check_ins) >= self._min_peers(), "EnoughPeers")
        self._reopen()

    def reset(self) -> None:
        running = self.state == "UNCONFIGURED" or any(node.active for node in self.nodes.values())
        self._refuse(self.state != "COMPLETE" and running, "TrainingNotComplete")
        for node in self.nodes.values():
            node.active = False
        self._open(self.round + 1)
        self.state, self.first_round, self.last_accepted = "UNCONFIGURED", self.round, 0
        self.term = 0
        self.layout, self.size = "", 0
        self.last_rounds = 0

    # --- rules --------------------------------------------------------------------------------------

    @staticmethod
    def _refuse(when: bool, error: str) -> None:
        if when:
            raise Refused(error)

    def _fence(self, state: str, round_number: int, term: int = 0) -> None:
        self._refuse(self.state == "COMPLETE", "TrainingComplete")
        self._refuse(self.state == "UNCONFIGURED", "NotConfigured")
        self._refuse(round_number != self.round, "StaleRound")
        self._refuse(state != self.state, "RoundClosed" if state == "CHECKIN" else "RoundNotClosed")
        self._refuse(state == "MERGE" and term != self.term, "StaleTerm")

    def _leave_out(self, round_number: int, term: int, leader: str, left_out: list[str]) -> None:
        self._fence("MERGE", round_number, term)
        self._refuse(leader not in self.nodes, "NotEnrolled")
        self._refuse(leader != self.leader, "NotTheLeader")
        for name in left_out:
            self._refuse(name not in self.nodes, "NotEnrolled")
            self._refuse(name not in self.check_ins, "NotAParticipant")
            del self.check_ins[name]

    def _ends(self, before: dict[str, tuple[str, bool]]) -> bool:
        """``before``: with those whom the leader left out."""
        here = self._active()
        finished = sum(entry[1] for entry in self.check_ins.values())
        if finished < self._min_peers() or any(name in here and not entry[1] for name, entry in before.items()):
            self.last_rounds = 0
            return False
        self.last_rounds += 1
        return set(here) <= set(self.check_ins) or self.last_rounds >= LAST_ROUNDS

    def _active(self) -> list[str]:
        return [name for name, node in self.nodes.items() if node.active]

    def _eligible(self) -> list[str]:
        return [name for name in self._active() if name in self.check_ins and self.nodes[name].may_lead]

    def _min_peers(self) -> int:
        assert self.config is not None
        return self.config[0]

    def _close_if_all_in(self) -> None:
        if self._active() and len(self.check_ins) >= max(self._min_peers(), len(self._active())) and self._eligible():
            self._start_merge()

    def _start_merge(self) -> None:
        self.term += 1
        eligible = self._eligible()
        self.leader = eligible[(self.round + self.term) % len(eligible)]
        self.state, self.votes = "MERGE", set()

    def _outvoted(self) -> bool:
        followers = [name for name in self._active() if name in self.check_ins and name != self.leader]
        return 2 * len(self.votes.intersection(followers)) > len(followers)

    def _depose(self) -> None:
        if self._eligible():
            self._start_merge()
        else:
            self._reopen()

    def _reopen(self) -> None:
        self.check_ins = {name: entry for name, entry in self.check_ins.items() if self.nodes[name].active}
        self.state = "CHECKIN"

    def _open(self, round_number: int) -> None:
        self.state, self.round, self.check_ins = "CHECKIN", round_number, {}
