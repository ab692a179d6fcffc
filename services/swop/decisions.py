"""What a SWOP does next, from the state of its taskrunner alone. No I/O."""

from dataclasses import dataclass

from services.rpc import swarm_pb2 as pb

UNDER_WAY = frozenset({pb.RUNNER_ASSIGNED, pb.RUNNER_RUNNING})


@dataclass(frozen=True)
class WaitForOthers:
    """For others, or for a task."""


@dataclass(frozen=True)
class Attend:
    """It does not attend, or with another profile than it has now."""


@dataclass(frozen=True)
class EnrolForTask:
    """The task is looked at; then the SWOP enrols, or says why not."""

    assignment: int


@dataclass(frozen=True)
class BeginWork:
    """Enough peers have enrolled: the work of this assignment begins, or goes on."""

    assignment: int


@dataclass(frozen=True)
class Missed:
    """It enrolled, but the task has ended before its part began: it will not begin it."""

    assignment: int


@dataclass(frozen=True)
class CleanUp:
    """What was started for an assignment that is over goes."""

    assignment: int


Action = WaitForOthers | Attend | EnrolForTask | BeginWork | Missed | CleanUp


@dataclass(frozen=True)
class AgentState:
    """What the SWOP knows of itself. ``working_on``: the assignment whose work it has begun or adopted, 0 for none."""

    name: str
    group: str
    pairs: int
    working_on: int = 0


def next_action(status: pb.RunnerStatus, me: AgentState) -> Action:
    """One step; when it is done, ask again with the newest state."""
    mine = _mine(status, me)
    if me.working_on and (me.working_on != status.assignment or status.state == pb.RUNNER_IDLE):
        return CleanUp(me.working_on)
    if mine is None or not _attends(mine, me):
        return Attend()
    if mine.enrolled_in > mine.released and (mine.enrolled_in != status.assignment or status.state == pb.RUNNER_IDLE):
        return CleanUp(mine.enrolled_in)
    if mine.enrolled_in == status.assignment and status.state != pb.RUNNER_IDLE:
        return _enrolled(status, me)
    if status.state in UNDER_WAY and mine.admissible and not _enough(status):
        return EnrolForTask(status.assignment)
    return WaitForOthers()


def is_counted(status: pb.RunnerStatus, me: AgentState) -> bool:
    """Whether a task that is assigned now would count with this SWOP: it attends, and its SN hears from it."""
    mine = _mine(status, me)
    return mine is not None and _attends(mine, me) and mine.present


def _mine(status: pb.RunnerStatus, me: AgentState) -> pb.TaskAgent | None:
    return next((agent for agent in status.agents if agent.name == me.name), None)


def _attends(mine: pb.TaskAgent, me: AgentState) -> bool:
    """With the profile that it has now."""
    return mine.attends and (mine.group, mine.sl_peers) == (me.group, me.pairs)


def _enrolled(status: pb.RunnerStatus, me: AgentState) -> Action:
    if me.working_on == status.assignment or status.state == pb.RUNNER_ASSIGNED:
        return WaitForOthers()
    open_peers = [peer for peer in status.peers if peer.agent == me.name and peer.state < pb.PEER_COMPLETE]
    if not open_peers:
        return WaitForOthers()
    began = any(peer.state == pb.PEER_RUNNING for peer in open_peers)
    return BeginWork(status.assignment) if status.state == pb.RUNNER_RUNNING or began else Missed(status.assignment)


def _enough(status: pb.RunnerStatus) -> bool:
    """Whether as many peers have enrolled, and have not failed, as are needed."""
    return sum(1 for peer in status.peers if peer.state != pb.PEER_ERROR) >= status.peers_needed
