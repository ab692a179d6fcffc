"""What a SWOP does next, from the state of its taskrunner alone. No I/O."""

from dataclasses import dataclass

from services.rpc import swarm_pb2 as pb

UNDER_WAY = frozenset({pb.RUNNER_ASSIGNED, pb.RUNNER_RUNNING})


@dataclass(frozen=True)
class WaitForOthers:
    """Wait for other SWOPs, or for a task."""


@dataclass(frozen=True)
class Attend:
    """The SWOP does not attend the taskrunner yet, or does so with an outdated profile."""


@dataclass(frozen=True)
class EnrolForTask:
    """Examine the task, then enrol or say why not."""

    assignment: int


@dataclass(frozen=True)
class BeginWork:
    """Enough peers have enrolled: begin the work of this assignment, or go on with it."""

    assignment: int


@dataclass(frozen=True)
class Missed:
    """The SWOP enrolled, but the task ended before its part began; the part will not begin."""

    assignment: int


@dataclass(frozen=True)
class CleanUp:
    """Remove what was started for an assignment that is over."""

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
    """The next step. When it is done, call again with the newest state."""
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
    """Whether a task assigned now would count on this SWOP: it attends, and its SN hears from it."""
    mine = _mine(status, me)
    return mine is not None and _attends(mine, me) and mine.present


def _mine(status: pb.RunnerStatus, me: AgentState) -> pb.TaskAgent | None:
    return next((agent for agent in status.agents if agent.name == me.name), None)


def _attends(mine: pb.TaskAgent, me: AgentState) -> bool:
    """Whether it attends with the profile that it has now."""
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
    """Whether enough peers have enrolled, not counting failed ones."""
    return sum(1 for peer in status.peers if peer.state != pb.PEER_ERROR) >= status.peers_needed
