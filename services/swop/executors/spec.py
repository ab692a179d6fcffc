"""What an executor is asked to start or build, and what it says about what it started: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class MountKind(Enum):
    BIND = "bind"
    VOLUME = "volume"


class NodeState(Enum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True)
class Owner:
    """The user and group ids under which a program runs and that own its files."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


@dataclass(frozen=True)
class Mount:
    """``source`` is an absolute path of the host or the name of a volume; the node finds it at ``target``.

    ``subpath``: mount only this relative path below the source. A subpath that leads out of its source, even through a
    symbolic link, is refused. ``seen_here``: the source is a path as this SWOP sees it, which may run in a container.
    """

    kind: MountKind
    source: str
    target: str
    read_only: bool = False
    subpath: str | None = None
    seen_here: bool = False


@dataclass(frozen=True)
class Port:
    """The host's port ``outside`` leads to the node's port ``inside``. None: any free port, see
    ``StartedProgram.ports``.

    ``address``: the only address of the host with this port; None: all of them.
    """

    inside: int
    outside: int | None = None
    address: str | None = None


@dataclass(frozen=True)
class Devices:
    """Hardware and privileges that the host's profile gives; by default none.

    ``gpus``: "all", a number, or "device=0,2". ``shm_size``: in Docker's notation, such as "1g".
    """

    gpus: str | None = None
    paths: tuple[str, ...] = ()
    ipc: str | None = None
    shm_size: str | None = None
    group_add: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    privileged: bool = False


@dataclass(frozen=True)
class ResourceLimits:
    """What a node may use; None: no limit."""

    memory_bytes: int | None = None
    processes: int | None = None


@dataclass(frozen=True)
class NodeSpec:
    """One program to start.

    ``entrypoint`` and ``command``: None: the image's own; empty tuple: none. ``environment`` is added to the image's;
    the SWOP's own environment is not passed on. ``network`` None: the runtime's default. ``network_options``: "ip",
    "ip6", "mac-address", "alias" (several, separated by commas).
    """

    name: str
    image: str
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    working_dir: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    user: Owner | None = None
    hostname: str | None = None
    network: str | None = None
    network_options: Mapping[str, str] = field(default_factory=dict)
    dns: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    devices: Devices = Devices()
    limits: ResourceLimits = ResourceLimits()


@dataclass(frozen=True)
class StartedProgram:
    """The current state of a started program. ``id`` is the executor's permanent name for it.

    ``exit_code`` is 128 + n if signal n ended it; None while it runs, or if nobody could learn how it ended (such as
    after a power failure). ``ports``: inside -> outside.
    """

    id: str
    name: str
    image: str
    state: NodeState
    exit_code: int | None = None
    out_of_memory: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[int, int] = field(default_factory=dict)
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class VolumeSpec:
    """A directory that nodes share. With ``memory_bytes`` it is in memory, for pipes and small files, and its content
    is lost when no node has it mounted. ``owner``: who may write in its top directory; None: root.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: Owner | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Volume:
    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class BuildSpec:
    """An image to build from the lines of a Dockerfile.

    ``context_volume``: a volume whose content the lines may COPY; None: nothing. ``network``: for the steps.
    ``arguments``: build arguments (proxies), the only thing about this host that the steps are told.
    """

    image: str
    steps: tuple[str, ...]
    context_volume: str | None = None
    context_limit_bytes: int = 4 * 1024**3
    network: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: ResourceLimits = ResourceLimits()


@dataclass(frozen=True)
class PullSpec:
    """An image to fetch. ``auth_file``: a local Docker config.json; the file stays on this host and is never logged."""

    repository: str
    tag: str = "latest"
    auth_file: str | None = None


@dataclass(frozen=True)
class Image:
    """``digest`` identifies the content (``sha256:…``); ``repository_digests`` are those in registries."""

    name: str
    digest: str
    repository_digests: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Runtime:
    """The container runtime of this host, as it answered. ``notes``: sentences about what is missing or different."""

    kind: str
    version: str
    address: str
    notes: tuple[str, ...] = ()
