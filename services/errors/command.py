"""A command of SWCI, what it names, or its outcome: exit code 23."""

from services.errors.base import SwarmError


class CommandError(SwarmError):
    code = "command"
    grpc_status = "INVALID_ARGUMENT"
    exit_code = 23
    message = "{problem}"
    remedy = "Write: {usage}."


class UnknownCommand(CommandError):
    code = "unknown-command"
    message = "There is no command {command}"
    remedy = "{hint}HELP lists all commands."


class NoContext(CommandError):
    code = "no-context"
    grpc_status = "FAILED_PRECONDITION"
    message = "There is no context to work on"
    remedy = "Make one: CREATE CONTEXT <name> WITH IP <ip>, with the address of an SN."


class UnknownContext(CommandError):
    code = "unknown-context"
    grpc_status = "NOT_FOUND"
    message = "There is no context {context}; there is {known}"
    remedy = "Correct the name, or make it with CREATE CONTEXT."


class ContextNameTaken(CommandError):
    code = "context-name-taken"
    grpc_status = "ALREADY_EXISTS"
    message = "There is already a context {context}, for {address}"
    remedy = "Choose another name, or switch to it with SWITCH CONTEXT."


class TooManyContexts(CommandError):
    code = "too-many-contexts"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "This session already has {limit} {what}, the most that it can keep"
    remedy = "Use one of these, or begin another session."


class TooManySessions(CommandError):
    code = "too-many-sessions"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "This SWCI serves {limit} sessions, and all of them are in use"
    remedy = "End streams and waits that nobody needs, or use one session for several (header Swci-Session)."


class SwciStopping(CommandError):
    code = "swci-stopping"
    grpc_status = "UNAVAILABLE"
    message = "This SWCI is stopping and gives up this request"
    remedy = "Try again when it runs again; tasks continue without it."


class UnknownVariable(CommandError):
    code = "unknown-variable"
    grpc_status = "NOT_FOUND"
    message = "The context {context} has no variable {variable}; it has {known}"
    remedy = "Set it with SET CONTEXT ENV."


class OutsideUsrDir(CommandError):
    code = "outside-usr-dir"
    grpc_status = "PERMISSION_DENIED"
    message = "{path} lies outside of the usr-dir, {root}"
    remedy = "Put the file there, or start SWCI with another --usr-dir."


class FileUnusable(CommandError):
    code = "file-unusable"
    message = "The file {path} cannot be used: {problem}"
    remedy = "Correct it, or name another one; LS lists what there is."


class UnknownPeer(CommandError):
    code = "unknown-peer"
    grpc_status = "NOT_FOUND"
    message = "The taskrunner {taskrunner} has no peer {peer}; it has {known}"
    remedy = "LIST TASKRUNNER PEERS lists them."


class TaskFailed(CommandError):
    code = "task-failed"
    grpc_status = "ABORTED"
    message = "The task {task} ended with ERROR on {taskrunner}: {reasons}"
    remedy = "GET TASKRUNNER PEER STATUS {taskrunner} <index> says more; the SWOP's log has all of it."


class TaskTakenAway(CommandError):
    code = "task-taken-away"
    grpc_status = "ABORTED"
    message = "The taskrunner {taskrunner} was reset while this command waited for {task}"
    remedy = "Ask who reset it, and assign the task again."


class WaitedInVain(CommandError):
    code = "waited-in-vain"
    grpc_status = "DEADLINE_EXCEEDED"
    message = "{what} after {limit}: {states}"
    remedy = "It continues; wait again, or raise {setting}."
