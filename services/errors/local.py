"""`swarm up` and its children: exit code 18."""

from services.errors.base import SwarmError


class LocalError(SwarmError):
    code = "local"
    exit_code = 18
    message = "The local swarm in {dir} failed: {problem}"
    remedy = "The logs are in {dir}."


class ChildFailed(LocalError):
    code = "child-failed"
    message = "{child} ended with exit code {exit}"
    remedy = "See what it said last (the whole log is {log}):\n{tail}"


class NotReady(LocalError):
    code = "not-ready"
    message = "{child} was not ready after {seconds} s"
    remedy = "See what it said last (the whole log is {log}):\n{tail}"


class AlreadyRunning(LocalError):
    code = "already-running"
    message = "A swarm already runs in {dir}"
    remedy = "`swarm down --dir {dir}` stops it, or choose another --dir."


class NotRunning(LocalError):
    code = "not-running"
    message = "No swarm runs in {dir}"
    remedy = "Start one with `swarm up --dir {dir}`, or give the --dir of the swarm that runs."


class DirUnusable(LocalError):
    code = "dir-unusable"
    message = "The directory {dir} cannot be used for a local swarm: {problem}"
    remedy = "Make it writable for your user, or choose another --dir."


class NeverTrained(LocalError):
    code = "never-trained"
    message = "{program} ended without training through the channel of {node}"
    remedy = "Create a SwarmCallback in it and pass it to the training; its output is in {log}."


class TooFewSLs(LocalError):
    code = "too-few-sls"
    message = "minPeers is {min_peers}, but this swarm has {sls} SLs: no round can ever be merged"
    remedy = "Start it with --sl {min_peers}, or give the programs a smaller minPeers."


class ProcessesNotWatched(LocalError):
    code = "processes-not-watched"
    message = "Programs cannot be watched here: the system call {call} is forbidden ({problem})"
    remedy = "Allow it, as the default seccomp profiles of Docker, Podman and Kubernetes do, or run outside of it."
