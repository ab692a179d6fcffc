"""What a taskrunner refuses: exit code 21, as for tasks."""

from services.errors.task import TaskError


class RunnerError(TaskError):
    code = "runner"
    message = "The taskrunner {runner} refused: {problem}"
    remedy = "See GET TASKRUNNER STATUS {runner}."


class UnknownRunner(RunnerError):
    code = "unknown-runner"
    grpc_status = "NOT_FOUND"
    message = "There is no taskrunner {name}; there are {known}"
    remedy = "Correct the name, or create it with CREATE TASKRUNNER."


class RunnerBusy(RunnerError):
    code = "runner-busy"
    message = "The taskrunner is busy: it has the task {task}"
    remedy = "Wait until it has ended, then RESET TASKRUNNER."


class RunnerIdle(RunnerError):
    code = "runner-idle"
    message = "The taskrunner has no task"
    remedy = "Assign one first."


class StaleAssignment(RunnerError):
    code = "stale-assignment"
    grpc_status = "ABORTED"
    message = "Assignment {given} is over; the taskrunner is at {current}"
    remedy = "Nothing needs to be done: a SWOP drops it by itself."


class NotEnoughPeers(RunnerError):
    code = "not-enough-peers"
    message = "The task needs {need} peers, but the SWOPs that are present at this taskrunner have {have}"
    remedy = "Ask for fewer (WITH ALL PEERS), or start more SWOPs."


class UnknownAgent(RunnerError):
    code = "unknown-agent"
    grpc_status = "NOT_FOUND"
    message = "There is no SWOP {name} at this taskrunner"
    remedy = "LIST TASKRUNNER PEERS lists them."


class AgentAbsent(RunnerError):
    code = "agent-absent"
    message = "The SWOP {name} is not present at this taskrunner"
    remedy = "Start it, or choose another one: LIST TASKRUNNER PEERS lists them."


class AgentNotAdmitted(RunnerError):
    code = "agent-not-admitted"
    grpc_status = "PERMISSION_DENIED"
    message = "The task is not for the SWOP {name}"
    remedy = "Assign it WITH PEERS, or with {name} as its TARGET."


class AlreadyEnrolled(RunnerError):
    code = "already-enrolled"
    grpc_status = "ALREADY_EXISTS"
    message = "The SWOP {name} is enrolled in this assignment already"
    remedy = "Nothing needs to be done."


class AgentNotEnrolled(RunnerError):
    code = "agent-not-enrolled"
    message = "The SWOP {name} is not enrolled in this assignment"
    remedy = "Restart the SWOP."


class EnoughEnrolled(RunnerError):
    code = "enough-enrolled"
    message = "As many peers have enrolled as the task needs"
    remedy = "Nothing needs to be done."


class RunnerFull(RunnerError):
    code = "runner-full"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "The taskrunner {runner} has no room for this SWOP: {problem}"
    remedy = "Give it a taskrunner of its own (CREATE TASKRUNNER), or stop SWOPs that are not needed."


class PeerHasEnded(RunnerError):
    code = "peer-has-ended"
    message = "Peer {index} of the SWOP {name} has ended already"
    remedy = "Nothing needs to be done."
