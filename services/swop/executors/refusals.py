"""Turns the error messages of container engines into our errors."""

import re

from services.errors import (
    ImageMissing,
    MountMissing,
    NetworkMissing,
    NodeNameInUse,
    NodeUnknown,
    NotSupported,
    ProgramMissing,
    PublishedPortInUse,
    RuntimeDiskFull,
    RuntimeRefused,
    SwarmError,
)
from services.swop.executors.engine import Engine
from services.swop.executors.spec import NodeSpec

DISK_FULL = "no space left on device"

_PORT_TAKEN = re.compile(
    r"port is already allocated|address already in use|cannot listen on the TCP port|bind: cannot assign", re.IGNORECASE
)
_PORT = re.compile(r":(\d+)[: ]")
_BIND_SOURCE = re.compile(r"bind source path does not exist: (?P<path>\S+)|statfs (?P<other>[^:]+): no such file")
_NETWORK = re.compile(r"network \S+ not found|unable to find network|network not found", re.IGNORECASE)
_PROGRAM = re.compile(
    r"executable file .{0,200}not found|exec: .*: (no such file|permission denied|is a directory)"
    r"|exec.* failed: No such file|open executable: (?P<why>[^:]+)|crun: .*: (No such file|Permission denied)",
    re.IGNORECASE,
)
_WORKING_DIR = re.compile(
    r"workdir .*does not exist|chdir to cwd .* failed|cwd .*(not a directory|no such)|working directory", re.IGNORECASE
)
_GPU = re.compile(r"could not select device driver|nvidia-container|unresolvable CDI devices", re.IGNORECASE)


def of_start(engine: Engine, spec: NodeSpec, status: int, message: str) -> SwarmError:
    """The error of a node that could not be started."""
    taken = _PORT_TAKEN.search(message)
    if taken and spec.ports:
        return PublishedPortInUse(port=_port_in(message, spec), node=spec.name)
    if status == 409 or "name is already in use" in message or "already in use by" in message:
        return NodeNameInUse(runtime=engine.title, node=spec.name)
    if found := _BIND_SOURCE.search(message):
        return _mount_missing(spec, found["path"] or found["other"])
    if _NETWORK.search(message):
        return NetworkMissing(runtime=engine.title, network=spec.network, command=engine.command)
    if "no such image" in message.lower() or "image not known" in message:
        return ImageMissing(image=spec.image)
    if _GPU.search(message):
        return NotSupported(executor=engine.kind, option="gpus", problem=message)
    if _WORKING_DIR.search(message) and spec.working_dir:
        return ProgramMissing(image=spec.image, program=f"in {spec.working_dir}", problem="no such directory")
    if _PROGRAM.search(message):
        return ProgramMissing(image=spec.image, program=_program_of(spec), problem=_end_of(message))
    return of(engine, f"start {spec.name}", message)


def of(engine: Engine, doing: str, message: str) -> SwarmError:
    """Any other refusal."""
    if DISK_FULL in message.lower():
        return RuntimeDiskFull(runtime=engine.title, doing=doing)
    return RuntimeRefused(runtime=engine.title, doing=doing, problem=message)


def of_node(engine: Engine, doing: str, node_id: str, status: int, message: str) -> SwarmError:
    """The error of a refused request about one node."""
    if status == 404 or "no such container" in message:
        return NodeUnknown(runtime=engine.title, node=node_id)
    return of(engine, doing, message)


def _mount_missing(spec: NodeSpec, path: str) -> SwarmError:
    path = path.rstrip(".,'\"")
    target = next((mount.target for mount in spec.mounts if path.startswith(mount.source)), "?")
    return MountMissing(source=path, target=target, problem="no such file or directory on this host")


def _port_in(message: str, spec: NodeSpec) -> int | str:
    wanted = {port.outside for port in spec.ports}
    found = (int(number) for number in _PORT.findall(message))
    return next((number for number in found if number in wanted), next(iter(wanted)) or "?")


def _program_of(spec: NodeSpec) -> str:
    words = (spec.entrypoint or ()) + (spec.command or ())
    return words[0] if words else "its program"


def _end_of(message: str) -> str:
    """The innermost of the errors that engines chain with colons."""
    return message.rstrip().removesuffix(": unknown").rpartition(": ")[2]
