"""Translates paths of a SWOP that runs in a container to paths of the host, by the mounts that the engine lists."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from services.swop.executors.engine_api import EngineApi, Refusal

MOUNTS = Path("/proc/self/mountinfo")

# Docker and Podman mount these from a directory whose name is the container's id.
_OF_A_CONTAINER = re.compile(r"/(?:overlay-)?containers/([0-9a-f]{64})/")
_MADE_BY_ENGINES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
_ROOT, _TARGET = 3, 4  # columns


@dataclass(frozen=True)
class OwnMount:
    """``source``: the path on the host. ``volume``: the volume's name, if it is one."""

    target: PurePosixPath
    source: PurePosixPath
    volume: str = ""


@dataclass(frozen=True)
class HostPath:
    """``path``: on the host. ``volume`` and ``part``: the same place as volume and path below it, if it is in one."""

    path: str
    volume: str = ""
    part: str | None = None


class OwnMounts:
    """The mounts of this SWOP; none if it runs directly on the host."""

    def __init__(self, mounts: Sequence[OwnMount] = ()) -> None:
        self._mounts = sorted(mounts, key=lambda mount: len(mount.target.parts), reverse=True)

    @classmethod
    async def ask(cls, api: EngineApi, container: str | None) -> "OwnMounts":
        """``container``: the id of the SWOP's own container. If it belongs to another engine, there are no mounts."""
        if container is None:
            return cls()
        try:
            said = await api.json(
                "GET", f"/containers/{container}/json", doing="while a SWOP looked for its own mounts"
            )
        except Refusal:
            return cls()
        return cls([_mount(one) for one in said.get("Mounts") or ()])

    def place(self, path: str) -> HostPath:
        """The host's path of what this SWOP sees at ``path``."""
        seen = PurePosixPath(path)
        for mount in self._mounts:
            if seen.is_relative_to(mount.target):
                part = seen.relative_to(mount.target)
                here = str(mount.source / part)
                return (
                    HostPath(here, mount.volume, str(part) if part.parts else None) if mount.volume else HostPath(here)
                )
        return HostPath(path)


async def own_container() -> str | None:
    """The id of the container in which this process runs; None on a host."""
    try:
        return container_of(await asyncio.to_thread(MOUNTS.read_text, errors="replace"))
    except OSError:
        return None


def container_of(mountinfo: str) -> str | None:
    """The container's id, from the kernel's list of a process's mounts; None on a host."""
    for line in mountinfo.splitlines():
        columns = line.split(" ")
        if len(columns) > _TARGET and columns[_TARGET] in _MADE_BY_ENGINES:
            found = _OF_A_CONTAINER.search(columns[_ROOT])
            if found:
                return found[1]
    return None


def _mount(said: dict[str, Any]) -> OwnMount:
    volume = str(said.get("Name") or "") if said.get("Type") == "volume" else ""
    return OwnMount(PurePosixPath(said["Destination"]), PurePosixPath(said.get("Source") or "/"), volume)
