"""Tasks and taskrunners: exit code 21."""

from services.errors.base import SwarmError


class TaskError(SwarmError):
    code = "task"
    grpc_status = "FAILED_PRECONDITION"
    exit_code = 21
    message = "The task {name} cannot be used: {problem}"
    remedy = "See GET TASK INFO {name}."


class UnknownTask(TaskError):
    code = "unknown-task"
    grpc_status = "NOT_FOUND"
    message = "There is no task {name}"
    remedy = "Correct the name (LIST TASKS lists all), or create it with CREATE TASK FROM."


class TaskNameTaken(TaskError):
    code = "task-name-taken"
    grpc_status = "ALREADY_EXISTS"
    message = "There is already a task named {name}"
    remedy = "Choose another name, or delete that one while it is not finalized."


class TaskIsFinalized(TaskError):
    code = "task-is-finalized"
    message = "The task {name} is finalized and cannot be changed any more"
    remedy = "Create one of another name."


class TaskNotFinalized(TaskError):
    code = "task-not-finalized"
    message = "The task {name} is not finalized"
    remedy = "Finalize it first: FINALIZE TASK {name}."


class TaskHasNoBody(TaskError):
    code = "task-has-no-body"
    message = "The task {name} has no body"
    remedy = "Append it first: APPEND TASK BODY {name} 1 <line>."


class TaskChanged(TaskError):
    code = "task-changed"
    grpc_status = "ABORTED"
    message = "The body of the task {name} was changed by somebody else in the meantime"
    remedy = "See GET TASK BODY {name}, and try again."


class TooLong(TaskError):
    code = "too-long"
    grpc_status = "INVALID_ARGUMENT"
    message = "{field} has {size} bytes, of at most {limit}"
    remedy = "Shorten it."


class DocumentUnusable(TaskError):
    """A file of a user: a task, a profile, a policy."""

    code = "document-unusable"
    grpc_status = "INVALID_ARGUMENT"
    message = "{source}, line {line}: {path}: {problem}"
    remedy = "Correct the file and try again."


class FileUnreadable(TaskError):
    code = "file-unreadable"
    grpc_status = "NOT_FOUND"
    message = "{path} cannot be read: {problem}"
    remedy = "Correct the name, or make the file readable for this program."


class CredentialsInTask(TaskError):
    code = "credentials-in-task"
    grpc_status = "INVALID_ARGUMENT"
    message = "{source}, line {line}: Auth: a user name and password would be on the chain for everybody to read"
    remedy = "Log in on each host with `docker login`, and give Auth the path of the config.json there, or ~."


class TaskRefused(TaskError):
    """Refused by the SWOP of a host; its reason is on the chain."""

    code = "task-refused"
    grpc_status = "PERMISSION_DENIED"
    message = "{task} is refused: {problem}"
    remedy = "Ask the owner of the host, whose policy decides, or change the task."


class PeerFailed(TaskError):
    """One of a task's SL/ML pairs, or a build, failed."""

    code = "peer-failed"
    message = "{what} ended with exit code {exit}: {problem}{tail}"
    remedy = "Correct the program or the task, reset the taskrunner, and assign it again."


class UnknownApproval(TaskError):
    code = "unknown-approval"
    grpc_status = "NOT_FOUND"
    message = "{hash} cannot be answered: {problem}"
    remedy = "Give the beginning of a hash that swarm swop approve shows, long enough to be the only one."


class PolicyUnusable(TaskError):
    """A policy that a profile names, but that is not a usable file."""

    code = "policy-unusable"
    message = "The policy {uri} cannot be used: {problem}"
    remedy = "Let policyuri name a YAML file (a path, relative to --usr-dir, or a file: URI), or be ~."
