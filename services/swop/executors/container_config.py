"""Converts between our plain data and the engine's JSON: what we create, and what the engine says about it."""

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from services.errors import NotSupported
from services.swop.executors.spec import (
    BuildSpec,
    Devices,
    Image,
    NodeSpec,
    NodeState,
    Owner,
    Port,
    StartedProgram,
    VolumeSpec,
)

LOG_FILE_SIZE = "16m"
LOG_FILES = "2"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_STATES = {
    "created": NodeState.CREATED, "configured": NodeState.CREATED, "initialized": NodeState.CREATED,
    "running": NodeState.RUNNING, "paused": NodeState.RUNNING, "restarting": NodeState.RUNNING,
    "stopping": NodeState.RUNNING,
}  # fmt: skip
_SIZE = re.compile(r"(\d+)([bkmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def container_of(
    spec: NodeSpec, image: str, mounts: Sequence[Mapping[str, Any]], host: Mapping[str, Any], kind: str
) -> Any:
    """The body of ``POST /containers/create``. ``host``: what this engine alone needs in HostConfig; ``kind``: the
    engine, for errors.
    """
    config: dict[str, Any] = {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "Labels": dict(spec.labels),
        "ExposedPorts": {f"{port.inside}/tcp": {} for port in spec.ports},
        "HostConfig": {
            "Mounts": list(mounts),
            "PortBindings": _bindings(spec.ports),
            "Dns": list(spec.dns),
            "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_FILE_SIZE, "max-file": LOG_FILES}},
            **_limits(spec),
            **_privileges(spec.devices, kind),
            **host,
        },
    }
    if spec.entrypoint is not None:
        config["Entrypoint"] = list(spec.entrypoint)
    if spec.command is not None:
        config["Cmd"] = list(spec.command)
    if spec.working_dir:
        config["WorkingDir"] = spec.working_dir
    if spec.user:
        config["User"] = str(spec.user)
    if spec.hostname:
        config["Hostname"] = spec.hostname
    if spec.network:
        config["HostConfig"]["NetworkMode"] = spec.network
        if spec.network_options:
            config["NetworkingConfig"] = {"EndpointsConfig": {spec.network: _endpoint(spec.network_options)}}
    return config


def gpus_of(text: str, kind: str) -> tuple[int, tuple[str, ...]]:
    """The number of GPUs (-1: all; 0: those named) and their names, from "all", "2" or "device=0,2"."""
    wanted = text.strip().strip("\"'")
    if wanted == "all":
        return -1, ()
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted), ()
    if wanted.startswith("device=") and (names := tuple(filter(None, wanted.removeprefix("device=").split(",")))):
        return 0, names
    raise NotSupported(executor=kind, option=f"gpus {text!r}", problem="write all, a number, or device=0,2")


def volume_of(spec: VolumeSpec, kind: str, with_size: bool = True) -> dict[str, Any]:
    """The body of ``POST /volumes/create``."""
    options: dict[str, str] = {}
    owner = spec.owner or Owner(0, 0)
    if spec.memory_bytes is not None:
        size = f"size={spec.memory_bytes}," if with_size else ""
        options = {"type": "tmpfs", "device": "tmpfs", "o": f"{size}uid={owner.uid},gid={owner.gid},mode=0700"}
    elif spec.owner is not None and kind == "PODMAN":
        options = {"o": f"uid={owner.uid},gid={owner.gid}"}
    return {"Name": spec.name, "Driver": "local", "Labels": dict(spec.labels), "DriverOpts": options}


def build_query(spec: BuildSpec, dockerfile: str) -> dict[str, str]:
    """The query of ``POST /build``. The steps' containers are removed, even if a step fails."""
    query = {
        "t": spec.image,
        "dockerfile": dockerfile,
        "rm": "true",
        "forcerm": "true",
        "buildargs": json.dumps(dict(spec.arguments)),
        "labels": json.dumps(dict(spec.labels)),
    }
    if spec.network:
        query["networkmode"] = spec.network
    if spec.limits.memory_bytes is not None:
        query |= {"memory": str(spec.limits.memory_bytes), "memswap": str(spec.limits.memory_bytes)}
    return query


def program_places(program: str, environment: Sequence[str], working_dir: str) -> list[str]:
    """The paths at which a program is looked for, in order."""
    if "/" in program:
        return [posixpath.normpath(posixpath.join(working_dir, program))]
    given = dict(pair.partition("=")[::2] for pair in environment)
    return [posixpath.join(folder, program) for folder in given.get("PATH", DEFAULT_PATH).split(":") if folder]


def node_of(inspected: Mapping[str, Any]) -> StartedProgram:
    """A container as a StartedProgram."""
    state = inspected["State"]
    is_now = _STATES.get(state["Status"], NodeState.EXITED)
    config = inspected.get("Config") or {}
    return StartedProgram(
        id=inspected["Id"],
        name=inspected["Name"].removeprefix("/"),
        image=config.get("Image") or inspected.get("Image", ""),
        state=is_now,
        exit_code=int(state["ExitCode"]) if is_now is NodeState.EXITED else None,
        out_of_memory=bool(state.get("OOMKilled")),
        labels=config.get("Labels") or {},
        ports=_published((inspected.get("NetworkSettings") or {}).get("Ports") or {}),
        started_at=_time(state.get("StartedAt")),
        ended_at=_time(state.get("FinishedAt")) if is_now is NodeState.EXITED else None,
    )


def image_of(name: str, inspected: Mapping[str, Any]) -> Image:
    """An image of the engine as an Image."""
    digest = inspected["Id"]
    return Image(
        name=name,
        digest=digest if digest.startswith("sha256:") else f"sha256:{digest}",
        repository_digests=tuple(inspected.get("RepoDigests") or ()),
        labels=(inspected.get("Config") or {}).get("Labels") or {},
    )


def byte_size(text: str, kind: str) -> int:
    """The number of bytes in "64m", "1g" or "4096"."""
    if found := _SIZE.fullmatch(text.strip()):
        return int(found[1]) * _UNITS[found[2].lower()]
    raise NotSupported(executor=kind, option=f"shm-size {text!r}", problem="write it like 64m or 1g")


def _bindings(ports: Sequence[Port]) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        outside = {"HostIp": port.address or "", "HostPort": "" if port.outside is None else str(port.outside)}
        bindings.setdefault(f"{port.inside}/tcp", []).append(outside)
    return bindings


def _limits(spec: NodeSpec) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if spec.limits.memory_bytes is not None:
        limits |= {"Memory": spec.limits.memory_bytes, "MemorySwap": spec.limits.memory_bytes}
    if spec.limits.processes is not None:
        limits["PidsLimit"] = spec.limits.processes
    return limits


def _privileges(devices: Devices, kind: str) -> dict[str, Any]:
    """No program gains rights that its user does not have, unless the host's profile says otherwise."""
    given: dict[str, Any] = {"SecurityOpt": list(devices.security_opt)}
    if devices.privileged:
        given["Privileged"] = True
    elif not devices.security_opt:
        given["SecurityOpt"] = ["no-new-privileges"]
    if devices.paths:
        given["Devices"] = [_device(path) for path in devices.paths]
    if devices.ipc:
        given["IpcMode"] = devices.ipc
    if devices.shm_size:
        given["ShmSize"] = byte_size(devices.shm_size, kind)
    if devices.group_add:
        given["GroupAdd"] = list(devices.group_add)
    if devices.cap_add:
        given["CapAdd"] = list(devices.cap_add)
    return given


def _device(text: str) -> dict[str, str]:
    """From ``/dev/kfd``, ``/dev/kfd:/dev/kfd`` or, with rights, ``…:rwm``."""
    host, _, rest = text.partition(":")
    inside, _, rights = rest.partition(":")
    return {"PathOnHost": host, "PathInContainer": inside or host, "CgroupPermissions": rights or "rwm"}


def _endpoint(options: Mapping[str, str]) -> dict[str, Any]:
    endpoint: dict[str, Any] = {}
    addresses = {ours: options[name] for name, ours in _ADDRESSES.items() if name in options}
    if addresses:
        endpoint["IPAMConfig"] = addresses
    if "mac-address" in options:
        endpoint["MacAddress"] = options["mac-address"]
    if "alias" in options:
        endpoint["Aliases"] = [alias.strip() for alias in options["alias"].split(",")]
    if unknown := options.keys() - _ADDRESSES.keys() - {"mac-address", "alias"}:
        known = ", ".join([*_ADDRESSES, "mac-address", "alias"])
        raise NotSupported(executor="DOCKER", option=f"network option {min(unknown)}", problem=f"it knows {known}")
    return endpoint


_ADDRESSES = {"ip": "IPv4Address", "ip6": "IPv6Address"}


def _published(ports: Mapping[str, Sequence[Mapping[str, str]] | None]) -> dict[int, int]:
    return {
        int(inside.partition("/")[0]): int(outside[0]["HostPort"])
        for inside, outside in ports.items()
        if outside and outside[0].get("HostPort")
    }


def _time(text: str | None) -> datetime | None:
    """Engines write nanoseconds, and the year 1 for never."""
    if not text or text.startswith("0001"):
        return None
    whole = re.sub(r"(\.\d{6})\d+", r"\1", text).replace("Z", "+00:00")
    try:
        return datetime.fromisoformat(whole).astimezone(UTC)
    except ValueError:
        return None
