"""Containers to be made: turns their description into the arguments of `container create`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from services.scripts.options import Given

NODE_LABEL = "swarm.node"  # SWOP labels what it starts in the same way
SENTINEL_LABEL = "swarm.sentinel"
DATA = "/platform/swarm/SMLNODE"
USR = "/platform/swarm/usr"

# Networks that every engine has, or values that are not names.
BUILT_IN_NETWORKS = ("host", "none", "bridge", "default", "private", "slirp4netns", "pasta")


@dataclass
class Container:
    """``options``: arguments of `container create`. ``published``: ports of this host that it gets."""

    name: str
    image: str
    user: str
    options: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    network: str = ""
    published: list[int] = field(default_factory=list)
    interactive: bool = False

    def env(self, name: str, value: object) -> None:
        """Sets a variable, unless the value is "" or None."""
        if value not in ("", None):
            self.options += ["--env", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]

    def publish(self, outside: int, inside: int) -> None:
        """Publishes a port of the container."""
        self.options += ["--publish", f"{outside}:{inside}"]
        self.published.append(outside)

    def bind(self, source: str, target: str, *, read_only: bool) -> None:
        """Mounts a file or directory of this host."""
        marks = [*(["ro"] if read_only else []), *(["z"] if selinux_enforces() else [])]
        self.options += ["--volume", ":".join([source, target, *([",".join(marks)] if marks else [])])]

    @property
    def words(self) -> list[str]:
        """The arguments for the engine."""
        return ["container", "create", *self.options, self.image, *self.command]


def take_passed(container: Container, passed: Iterable[tuple[str, str | None]], given: Given, prefix: str = "") -> None:
    """Passes options on to the engine; makes relative paths of mounts absolute. Raises OptionUnusable."""
    for name, said in passed:
        shown = f"--{prefix}{name}"
        if said is None:
            container.options.append(f"--{name}")
            continue
        value = _volume(said, shown, given) if name == "volume" else said
        if name == "publish":
            container.published += _published(value)
        elif name in ("network", "net"):
            container.network = value.partition(":")[0]
        elif name == "user":
            container.user = value
            continue
        container.options += [f"--{name}", value]


def selinux_enforces() -> bool:
    """Whether SELinux lets containers open only files that are labeled for them."""
    try:
        return Path("/sys/fs/selinux/enforce").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def _volume(value: str, option: str, given: Given) -> str:
    """A source without '/' is a volume; one with '/' must exist."""
    source, colon, rest = value.partition(":")
    if not colon:
        if not source.startswith("/"):
            raise given.unusable(option, f"'{value}' is not SOURCE:TARGET")
        return value
    if "/" not in source and source not in (".", ".."):
        return value
    path = Path(source).expanduser()
    if not path.exists():
        raise given.unusable(option, f"{source} is not there; make it first, or name a volume without '/'")
    return f"{path.absolute()}:{rest}"


def _published(value: str) -> list[int]:
    """The port of this host in ``[ADDRESS:]PORT:PORT[/PROTOCOL]``; none for a range or if the engine chooses."""
    parts = value.rpartition("/")[0].split(":") if "/" in value else value.split(":")
    if len(parts) < 2 or not parts[-2].isdecimal():
        return []
    return [int(parts[-2])]
