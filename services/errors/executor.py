"""Docker, Podman or the local processes of a SWOP: exit code 22."""

from typing import Any

from services.errors.base import SwarmError


class ExecutorError(SwarmError):
    code = "executor"
    grpc_status = "FAILED_PRECONDITION"
    exit_code = 22
    message = "{runtime} failed: {problem}"
    remedy = "See the log of {runtime} on this host."


class RuntimeAbsent(ExecutorError):
    code = "runtime-absent"
    grpc_status = "UNAVAILABLE"
    message = "{runtime} does not answer at {address}: {problem}"
    remedy = "Install and start it (on Debian: {install}), or set {variable} to where it listens."


class RuntimeForbidden(ExecutorError):
    code = "runtime-forbidden"
    grpc_status = "PERMISSION_DENIED"
    message = "User {uid} may not use {runtime} at {address}: {problem}"
    remedy = "Add this user to the group of the socket ({group}), and start the SWOP again."


class HostNotReady(ExecutorError):
    """Found before a script creates anything on this host."""

    code = "host-not-ready"
    message = "{problem}"
    remedy = "{advice}."

    def __init__(self, **facts: Any) -> None:
        problem, advice = str(facts.get("problem", "?")), str(facts.get("advice", "?"))
        super().__init__(problem=f"{problem[:1].upper()}{problem[1:]}", advice=advice.rstrip("."))


class RuntimeGone(ExecutorError):
    code = "runtime-gone"
    grpc_status = "UNAVAILABLE"
    message = "{runtime} at {address} stopped answering {doing}: {problem}"
    remedy = "Start it again; the SWOP resumes what is still running."


class RuntimeRefused(ExecutorError):
    code = "runtime-refused"
    message = "{runtime} refused to {doing}: {problem}"
    remedy = "Correct what it names in the profile or the task."


class RuntimeDiskFull(ExecutorError):
    code = "runtime-disk-full"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "The disk on which {runtime} keeps its images and nodes is full; it failed to {doing}"
    remedy = (
        "Free space there (`docker system df` or `podman system df` shows what uses it), and assign the task again."
    )


class NotSupported(ExecutorError):
    code = "not-supported"
    grpc_status = "UNIMPLEMENTED"
    message = "The executor {executor} has no {option}: {problem}"
    remedy = "Leave it out of the profile, or choose another executor there."


class ImageMissing(ExecutorError):
    code = "image-missing"
    grpc_status = "NOT_FOUND"
    message = "This host has no image {image}"
    remedy = "First assign the task that builds or pulls it, or build it here by hand."


class ImageNotMapped(ImageMissing):
    code = "image-not-mapped"
    grpc_status = "NOT_FOUND"
    message = "The executor PROCESS builds and pulls no images, and the profile maps no Python environment to {image}"
    remedy = "Map it to one; mapped are: {mapped}."


class EnvironmentUnusable(ExecutorError):
    code = "environment-unusable"
    message = "The Python environment {python} of the image {image} cannot be used: {problem}"
    remedy = "Create it again, or correct the profile's map of images."


class NodeUnknown(ExecutorError):
    code = "node-unknown"
    grpc_status = "NOT_FOUND"
    message = "{runtime} has no node {node}: it was removed"
    remedy = "Reset the taskrunner and assign the task again."


class NodeNameInUse(ExecutorError):
    code = "node-name-in-use"
    grpc_status = "ALREADY_EXISTS"
    message = "{runtime} already has a node named {node}"
    remedy = "Remove it, or reset the taskrunner that started it."


class ProgramMissing(ExecutorError):
    code = "program-missing"
    message = "The image {image} cannot start {program}: {problem}"
    remedy = "Correct Entrypoint, Command or WorkingDir of the task, or build the image with it."


class MountMissing(ExecutorError):
    code = "mount-missing"
    grpc_status = "NOT_FOUND"
    message = "{source}, to be mounted at {target}, is not there: {problem}"
    remedy = "Make it, or correct the profile or the task."


class MountEscapes(ExecutorError):
    code = "mount-escapes"
    grpc_status = "INVALID_ARGUMENT"
    message = "The mount of {source} at {target} is refused: {problem}"
    remedy = "Give paths without '..' and links that stay inside what is mounted."


class NetworkMissing(ExecutorError):
    code = "network-missing"
    grpc_status = "NOT_FOUND"
    message = "{runtime} has no network {network}"
    remedy = "Make it (`{command} network create {network}`), or correct `network` in the profile."


class PublishedPortInUse(ExecutorError):
    code = "published-port-in-use"
    grpc_status = "ALREADY_EXISTS"
    message = "Port {port} of this host is in use, so {node} cannot be reached through it"
    remedy = "Stop what uses it, or give another slport in the profile."


class VolumeMissing(ExecutorError):
    code = "volume-missing"
    grpc_status = "NOT_FOUND"
    message = "{runtime} has no volume {volume}"
    remedy = "Make and fill it first (docs/swop.md shows how), or correct its name in the task."


class VolumeEmpty(ExecutorError):
    code = "volume-empty"
    message = "The build context, volume {volume}, is empty"
    remedy = "Copy into it what the build steps need, or set BuildContext to ~."


class VolumeTooLarge(ExecutorError):
    code = "volume-too-large"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "The volume {volume} holds more than the {limit} bytes that may be copied"
    remedy = "Leave in it only what is needed, or raise the limit in the SWOP's settings."


class VolumeNameInUse(ExecutorError):
    code = "volume-name-in-use"
    grpc_status = "ALREADY_EXISTS"
    message = "{runtime} already has a volume {volume}"
    remedy = "Remove it, or reset the taskrunner that made it."


class VolumeBusy(ExecutorError):
    code = "volume-busy"
    message = "The volume {volume} is in use by {nodes}"
    remedy = "Remove them first."


class BuildFailed(ExecutorError):
    code = "build-failed"
    message = "Building {image} failed at {step}: {problem}. Its last lines:{tail}"
    remedy = "Correct the build steps of the task."


class PullFailed(ExecutorError):
    code = "pull-failed"
    message = "{image} cannot be pulled: {problem}"
    remedy = "Check its name, the connection from this host to its registry, and the credentials for it."


class AuthFileUnusable(ExecutorError):
    code = "auth-file-unusable"
    message = "The credentials in {path} cannot be used: {problem}"
    remedy = "Make the file with `docker login`, readable for the SWOP; credentials do not belong in a task."
