"""Turns the task and the profile into one pair of a RUN_SWARM task, as an executor starts it. No I/O."""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from services.errors import TaskRefused
from services.runtime.addresses import HTTPS_PORT, split_address
from services.swop.executors.spec import Devices, Mount, MountKind, NodeSpec, Owner, Port, VolumeSpec
from services.swop.profile import NodeDefinition, Option, Profile
from services.tasks.definition import RunSwarm, TaskDefinition

CHANNELS = "/tmp/hpe-swarm"  # noqa: S108 - a path inside of containers, which users know
REQUEST, RESPONSE = f"{CHANNELS}/request.channel", f"{CHANNELS}/response.channel"
SL_DATA = "/platform/swarm/SMLNODE"
SL_PORT = 30305
TRUST = "/swarm-trust"
PIPES_BYTES = 64 << 20

LABEL = "swarm."
_ID_VARIABLES = {
    "KEY": "SWARM_ID_KEY", "CERT": "SWARM_ID_CERT", "CACERT": "SWARM_ID_CACERT", "CAPATH": "SWARM_ID_CAPATH",
    "SPIFFE_SOCKETPATH": "SWARM_SPIFFE_WORKLOAD_API_SOCKET_PATH", "KEYPASSPHRASE": "SWARM_ID_KEY_PASSPHRASE_FILE",
}  # fmt: skip
# Whom an SL trusts. With SPIFFE, the Workload API says so.
_TRUSTING = ("CACERT", "CAPATH", "SPIFFE_SOCKETPATH")
CAS_ALONE = ("CACERT", "CAPATH", "SWARM_ID_CACERT", "SWARM_ID_CAPATH")
_TRUSTING_VARIABLES = ("SWARM_ID_TRUST", *(_ID_VARIABLES[kind] for kind in _TRUSTING))
_DEVICE_LISTS = {
    "device": "paths", "group-add": "group_add", "cap-add": "cap_add", "security-opt": "security_opt",
}  # fmt: skip


@dataclass(frozen=True)
class PairPlacement:
    """Where and for whom a pair runs. ``host_network``: programs share the network of the host (PROCESS).

    ``sn``, ``license``: host:port. ``trust``: the SWOP's own trust file, which its SLs use too. ``authority``: the
    issuer of the SWOP's certificate, as another swarm on this host may have a SWOP of the same name.
    """

    swop: str
    runner: str
    assignment: int
    owner: Owner
    sl_image: str
    sn: str
    license: str
    host_network: bool = False
    authority: str = ""
    trust: str = ""
    secret: str = ""  # a few random digits that make names unique


@dataclass(frozen=True)
class PairSpec:
    """One SL, its ML program, and the volumes that they use."""

    index: int
    sl: NodeSpec
    ml: NodeSpec
    volumes: tuple[VolumeSpec, ...] = field(default=())


def labels_of(swop: str, runner: str, assignment: int, **more: str) -> dict[str, str]:
    """The labels by which everything that a SWOP started for an assignment is found again."""
    known = {"swop": swop, "runner": runner, "assignment": str(assignment), **more}
    return {f"{LABEL}{name}": value for name, value in known.items()}


def pair(profile: Profile, node: NodeDefinition, task: TaskDefinition, image: str, place: PairPlacement) -> PairSpec:
    """``task``: a RUN_SWARM. Raises TaskRefused for an option that no executor has."""
    header, body = task.header, task.body
    assert isinstance(body, RunSwarm)  # noqa: S101 - whoever calls has looked
    stem = re.sub(r"[^a-zA-Z0-9_.-]", "-", f"{profile.group}-{header.name}")
    labels = labels_of(
        place.swop, place.runner, place.assignment, authority=place.authority, task=header.name, index=str(node.index)
    )
    channels, data = (
        VolumeSpec(
            f"swop-{re.sub(r'[^a-zA-Z0-9_.-]', '-', profile.group)}-{kind}-{node.index}-{place.secret}",
            labels,
            place.owner,
            size,
        )
        for kind, size in (("swif", PIPES_BYTES), ("sl", None))
    )
    shared = Mount(MountKind.VOLUME, channels.name, CHANNELS)
    sl = NodeSpec(
        name=f"{stem}-s-{node.index}-{place.secret}",
        image=place.sl_image,
        environment=_sl_environment(profile, node, place),
        mounts=(shared, Mount(MountKind.VOLUME, data.name, SL_DATA), *_identity(node), *_trust(node, profile, place)),
        user=place.owner,
        hostname=node.sl_hostname,
        network=profile.network,
        network_options=_flat(node.sl_network_options or ()),
        dns=tuple(profile.dns or ()),
        labels={**_user_labels(node.sl_labels), **labels, f"{LABEL}node": "sl"},
        ports=() if place.host_network else (Port(SL_PORT, node.sl_port),) if node.sl_port else (),
    )
    ml = NodeSpec(
        name=f"{stem}-u-{node.index}-{place.secret}",
        image=image,
        entrypoint=tuple(shlex.split(body.entrypoint)) or None,
        command=tuple(shlex.split(body.command)),
        working_dir=body.working_dir,
        environment={"SWARM_NODE_INDEX": str(node.index)}
        | _variables(body.envvars, node.ml_env)
        | {"SL_REQUEST_CHANNEL": REQUEST, "SL_RESPONSE_CHANNEL": RESPONSE},
        mounts=(shared, *_content(node, body)),
        user=place.owner,
        hostname=node.ml_hostname,
        network=profile.network,
        network_options=_flat(node.ml_network_options or ()),
        dns=tuple(profile.dns or ()),
        labels={**_user_labels(node.ml_labels), **labels, f"{LABEL}node": "ml"},
        devices=devices_of(node.ml_options or ()),
    )
    return PairSpec(node.index, sl, ml, (channels, data))


def devices_of(options: Iterable[Mapping[str, Any]]) -> Devices:
    """From ``usrcontaineropts`` of a profile. Raises TaskRefused for an unknown option."""
    found: dict[str, Any] = {}
    for option in options:
        ((name, value),) = option.items()
        text = "" if value is None else str(value)
        if name in {"gpus", "ipc", "shm-size"}:
            found[name.replace("-", "_")] = text
        elif name in _DEVICE_LISTS:
            found[_DEVICE_LISTS[name]] = (*found.get(_DEVICE_LISTS[name], ()), *text.split(","))
        elif name == "privileged":
            found[name] = value is True or text.lower() == "true"
        else:
            raise TaskRefused(task="the profile", problem=f"it has the container option '{name}', which is not known")
    return Devices(**found)


def _sl_environment(profile: Profile, node: NodeDefinition, place: PairPlacement) -> dict[str, str]:
    sn_host, sn_port = split_address(place.sn, HTTPS_PORT)
    license_host, license_port = split_address(place.license, HTTPS_PORT)
    port = node.sl_port if node.sl_port else (0 if place.host_network else SL_PORT)
    given: dict[str, str] = {
        "SN_NODE_IP": sn_host,
        "SN_API_SERVER_PORT": str(sn_port),
        "SL_FS_PORT": str(port),
        "SL_REQUEST_CHANNEL": REQUEST,
        "SL_RESPONSE_CHANNEL": RESPONSE,
        "SWARM_DATA_DIR": SL_DATA,
        "SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_IP": license_host,
        "SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_PORT": str(license_port),
        "SL_SWOP_TRNAME": place.runner,
        "SL_SWOP_UID": place.swop,
        "SL_SWOP_IDX": str(node.index),
        "SL_SWOP_OPID": str(place.assignment),
    }
    if not place.host_network:
        given["SL_BIND_PORT"] = str(SL_PORT)
    if node.sl_host_ip:
        given["THIS_NODE_IP"] = node.sl_host_ip
    elif node.sl_hostname:
        given["THIS_NODE_IP"] = node.sl_hostname
    if node.sl_fs_service:
        given["SL_FS_SERVICE"] = node.sl_fs_service
    for file in node.identity:
        given[_ID_VARIABLES[file.attribute.kind]] = file.attribute.target
    if sum(_certificate(other) == _certificate(node) for other in profile.definitions) > 1:
        given["SL_SLOT"] = str(node.index)  # SLs with the same certificate are separate participants
    for _ in _trust(node, profile, place):
        given["SWARM_ID_TRUST"] = str(PurePosixPath(TRUST, PurePosixPath(place.trust).name))
    return given | _variables(profile.env, node.sl_env)


def own_trust(node: NodeDefinition, profile: Profile) -> str:
    """The attribute or variable by which a profile says whom an SL trusts; "" if it does not say so."""
    attributes = [file.attribute.kind for file in node.identity if file.attribute.kind in _TRUSTING]
    variables = _variables(profile.env, node.sl_env)
    return next((name for name in (*attributes, *_TRUSTING_VARIABLES) if name in attributes or name in variables), "")


def _trust(node: NodeDefinition, profile: Profile, place: PairPlacement) -> tuple[Mount, ...]:
    """The directory of the trust file, with all files that it names."""
    if not place.trust or own_trust(node, profile):
        return ()
    return (Mount(MountKind.BIND, str(PurePosixPath(place.trust).parent), TRUST, read_only=True, seen_here=True),)


def _certificate(node: NodeDefinition) -> tuple[str | None, ...]:
    """Where a node's certificate is."""
    files = (file.attribute for file in node.identity)
    return next(((file.mount, file.source, file.subpath) for file in files if file.kind == "CERT"), ())


def _identity(node: NodeDefinition) -> tuple[Mount, ...]:
    return tuple(
        Mount(_kind(part.mount), part.source, part.target, read_only=True, subpath=part.subpath)
        for part in (file.attribute for file in node.identity)
    )


def _content(node: NodeDefinition, body: RunSwarm) -> tuple[Mount, ...]:
    mounts = [Mount(_kind(shared.kind), shared.source, shared.target) for shared in body.shared_content or ()]
    if node.private_data is not None and body.private_content is not None:
        mounts.append(Mount(_kind(node.private_data.mount), node.private_data.source, body.private_content))
    return tuple(mounts)


def _kind(name: str) -> MountKind:
    return MountKind.BIND if name == "BIND" else MountKind.VOLUME


def _variables(*lists: Iterable[Mapping[str, Any]] | None) -> dict[str, str]:
    """Later lists win. Variables set to null (``~``) are not passed on."""
    merged: dict[str, Any] = {}
    for entries in lists:
        for entry in entries or ():
            merged.update(entry)
    return {name: _text(value) for name, value in merged.items() if value is not None}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat(options: Iterable[Option]) -> dict[str, str]:
    return {name: str(value) for option in options for name, value in option.items() if value is not None}


def _user_labels(labels: dict[str, str] | list[str] | None) -> dict[str, str]:
    if isinstance(labels, list):
        return {name: value for name, _, value in (label.partition("=") for label in labels)}
    return dict(labels or {})
