"""The taskrunner as a small model: what TaskRunner must do, said a second time and more simply."""

from dataclasses import dataclass, field


class Refused(Exception):
    """The contract's error of this name."""


@dataclass
class Agent:
    peers: int
    attends: bool = True
    enrolled_in: int = 0
    released: int = 0


@dataclass
class RunnerModel:
    """``peers``: (agent, index) -> state of the assignment; ``targets`` empty: any agent."""

    state: str = "IDLE"
    assignment: int = 0
    pairs: bool = False
    needed: int = 0
    targets: set[str] = field(default_factory=set)
    agents: dict[str, Agent] = field(default_factory=dict)
    peers: dict[tuple[str, int], str] = field(default_factory=dict)

    def attend(self, name: str, peers: int) -> None:
        known = self.agents.setdefault(name, Agent(peers))
        known.peers, known.attends = peers, True

    def quit(self, name: str) -> None:
        self._known(name)
        if self.agents[name].attends:
            self.agents[name].attends = False
            self._decide()

    def assign(self, pairs: bool, needed: int, target: str) -> None:
        self._refuse(self.state != "IDLE", "RunnerBusy")
        if target:
            self._attending(target)
        after = RunnerModel("ASSIGNED", self.assignment + 1, pairs, needed, {target} - {""}, self.agents, {})
        if target:
            after.needed = after._brings(target)
        self._refuse(after.needed == 0, "Malformed")
        self._refuse(after.needed > after._open(), "NotEnoughPeers")
        vars(self).update(vars(after))

    def add_target(self, assignment: int, target: str) -> None:
        self._under_way(assignment)
        self._attending(target)
        self._refuse(self.agents[target].enrolled_in == assignment, "AlreadyEnrolled")
        if self.targets:
            self._refuse(target in self.targets, "AlreadyEnrolled")
            self.targets.add(target)
        self.needed += self._brings(target)

    def enrol(self, assignment: int, name: str, peers: int) -> None:
        self._under_way(assignment)
        self._attending(name)
        self._refuse(self.agents[name].enrolled_in == assignment, "AlreadyEnrolled")
        self._refuse(bool(self.targets) and name not in self.targets, "AgentNotAdmitted")
        self._refuse(self._sound() >= self.needed, "EnoughEnrolled")
        self._refuse(peers != self._brings(name), "Malformed")
        self.agents[name].enrolled_in = assignment
        self.peers |= {(name, index): "ENROLLED" for index in range(peers)}
        if self.state == "ASSIGNED" and self._sound() >= self.needed:
            self.state = "RUNNING"

    def report(self, assignment: int, name: str, index: int, state: str) -> None:
        self._current(assignment)
        self._known(name)
        self._refuse(self.agents[name].enrolled_in != assignment, "AgentNotEnrolled")
        self._refuse((name, index) not in self.peers or state == "NONE", "Malformed")
        self._refuse(self.peers[name, index] in {"COMPLETE", "ERROR"}, "PeerHasEnded")
        self.peers[name, index] = state
        self._decide()

    def reset(self, assignment: int) -> None:
        self._current(assignment)
        self.state = "IDLE"

    def release(self, assignment: int, name: str) -> None:
        self._known(name)
        self._refuse(assignment > self.assignment, "StaleAssignment")
        self.agents[name].released = max(self.agents[name].released, assignment)

    # --- what follows -------------------------------------------------------------------------------

    def _decide(self) -> None:
        if self.state not in {"ASSIGNED", "RUNNING"}:
            return
        if sum(state == "COMPLETE" for state in self.peers.values()) >= self.needed:
            self.state = "COMPLETE"
        elif self._sound() + self._open() < self.needed:
            self.state = "ERROR"

    def _open(self) -> int:
        """Peers of agents that may still enrol."""
        return sum(
            self._brings(name)
            for name, agent in self.agents.items()
            if agent.attends and agent.enrolled_in != self.assignment and (not self.targets or name in self.targets)
        )

    def _sound(self) -> int:
        return sum(state != "ERROR" for state in self.peers.values())

    def _brings(self, name: str) -> int:
        return self.agents[name].peers if self.pairs else 1

    def _under_way(self, assignment: int) -> None:
        self._current(assignment)
        self._refuse(self.state not in {"ASSIGNED", "RUNNING"}, "RunnerBusy")

    def _current(self, assignment: int) -> None:
        self._refuse(assignment != self.assignment, "StaleAssignment")
        self._refuse(self.state == "IDLE", "RunnerIdle")

    def _attending(self, name: str) -> None:
        self._known(name)
        self._refuse(not self.agents[name].attends, "UnknownAgent")

    def _known(self, name: str) -> None:
        self._refuse(name not in self.agents, "UnknownAgent")

    def _refuse(self, wrong: bool, error: str) -> None:
        if wrong:
            raise Refused(error)
