"""The state of a taskrunner, from its events: who attends, what is assigned, how its peers are doing."""

from dataclasses import dataclass, field, replace

from services.chain import task_events as on_chain
from services.chain.runner import PEERS_LIMIT
from services.chain.task_events import Assigned, PeerState, RunnerState
from services.sn.event_fold import EventFold

# SWOPs that attend at the same time: so many fit into one status.
AGENTS_LIMIT = 1000


@dataclass(frozen=True)
class Agent:
    """A SWOP. ``enrolled_in``, ``released``: the last assignments that it enrolled in and cleaned up after."""

    name: str
    group: str
    peers: int
    fingerprint: bytes
    attends: bool = True
    enrolled_in: int = 0
    brought: int = 0
    released: int = 0


@dataclass(frozen=True)
class Peer:
    """``name``: of its SL, if it has one. ``updated_at``: seconds since 1970."""

    agent: str
    index: int
    name: str = ""
    state: PeerState = PeerState.ENROLLED
    description: str = ""
    updated_at: float = 0.0


@dataclass
class RunnerView(EventFold[on_chain.RunnerEvent]):
    """The state of a taskrunner. Times are seconds since 1970, 0 if not yet."""

    runner: str
    location: str
    state: RunnerState = RunnerState.IDLE
    assignment: int = 0
    assigned: Assigned | None = None
    needed: int = 0
    targets: tuple[str, ...] = ()
    agents: dict[str, Agent] = field(default_factory=dict)
    peers: dict[tuple[str, int], Peer] = field(default_factory=dict)
    assigned_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0

    @property
    def under_way(self) -> bool:
        """Whether it has a task that has not ended."""
        return self.state in {RunnerState.ASSIGNED, RunnerState.RUNNING}

    def is_busy(self, agent: str) -> bool:
        """Whether a SWOP is enrolled in the current assignment, under way or ended but not yet reset."""
        known = self.agents.get(agent)
        return known is not None and known.enrolled_in == self.assignment and self.state is not RunnerState.IDLE

    def is_admissible(self, agent: str) -> bool:
        return not self.targets or agent in self.targets

    def _fold(self, event: on_chain.RunnerEvent) -> None:
        """Raises TypeError for an unknown event, ValueError or KeyError for one that no taskrunner emits."""
        match event:
            case on_chain.AgentAttended():
                self._attended(event)
            case on_chain.AgentQuit():
                self._change(event.name, attends=False)
            case on_chain.TaskAssigned():
                self._task_assigned(event)
            case on_chain.TargetAdded():
                self.needed = event.needed
                if self.targets:
                    self.targets = (*self.targets, event.target)
            case on_chain.AgentEnrolled():
                self._enrolled(event)
            case on_chain.RunnerStarted():
                self.state, self.started_at = RunnerState.RUNNING, event.at / 1000
            case on_chain.PeerReported():
                said = event.report
                self.peers[said.agent, said.index] = Peer(
                    said.agent, said.index, said.peer, said.state, said.description, event.at / 1000
                )
            case on_chain.RunnerEnded():
                self.state, self.ended_at = event.state, event.at / 1000
            case on_chain.RunnerReset():
                self._cleared()
            case on_chain.AgentReleased():
                self._change(event.name, released=event.assignment)
            case _:
                raise TypeError(f"no fold for {type(event).__name__}")

    def _attended(self, event: on_chain.AgentAttended) -> None:
        known = self.agents.get(event.name)
        agent = known or Agent(event.name, event.group, event.peers, event.fingerprint)
        self.agents[event.name] = replace(
            agent, group=event.group, peers=event.peers, fingerprint=event.fingerprint, attends=True
        )

    def _task_assigned(self, event: on_chain.TaskAssigned) -> None:
        self._cleared()
        self.state, self.assignment, self.assigned = RunnerState.ASSIGNED, event.assignment, event.assigned
        self.needed, self.assigned_at = event.assigned.needed, event.at / 1000
        self.targets = (event.assigned.target,) if event.assigned.target else ()

    def _enrolled(self, event: on_chain.AgentEnrolled) -> None:
        if event.peers > PEERS_LIMIT:
            raise ValueError(f"{event.peers} peers")
        self._change(event.name, enrolled_in=event.assignment, brought=event.peers)
        for index in range(event.peers):
            self.peers[event.name, index] = Peer(event.name, index)

    def _cleared(self) -> None:
        self.state, self.assigned, self.needed, self.targets = RunnerState.IDLE, None, 0, ()
        self.peers = {}
        self.assigned_at = self.started_at = self.ended_at = 0.0

    def _change(self, name: str, **changes: object) -> None:
        self.agents[name] = replace(self.agents[name], **changes)  # type: ignore[arg-type]
