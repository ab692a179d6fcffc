"""Volumes of a container engine. Their content is read and written through a container that never runs."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from services.errors import (
    MountEscapes,
    MountMissing,
    NotSupported,
    VolumeBusy,
    VolumeMissing,
    VolumeNameInUse,
    VolumeTooLarge,
)
from services.swop.executors import archive, refusals
from services.swop.executors.base import carries
from services.swop.executors.container_config import volume_of
from services.swop.executors.engine import PODMAN
from services.swop.executors.engine_api import EngineApi, Refusal
from services.swop.executors.own_mounts import OwnMounts, own_container
from services.swop.executors.spec import Mount, MountKind, Owner, Volume, VolumeSpec

CARRIER_IMAGE = "swop-carrier"
INSIDE = "/swop/volume"


class ContainerVolumes:
    """Like everything that talks to the engine, raises RuntimeAbsent, RuntimeForbidden and RuntimeGone."""

    def __init__(self, api: EngineApi) -> None:
        self._api = api
        self._carrier_image: str | None = None
        self._own_mounts: OwnMounts | None = None

    async def create(self, spec: VolumeSpec) -> Volume:
        if await self._inspected(spec.name) is not None:
            raise VolumeNameInUse(runtime=self._api.engine.title, volume=spec.name)
        doing = f"while the volume {spec.name} was made"
        try:
            try:
                await self._api.json(
                    "POST", "/volumes/create", doing=doing, body=volume_of(spec, self._api.engine.kind)
                )
            except Refusal as refusal:
                if "options size" not in refusal.message:
                    raise
                # Podman before 4.4 mistakes the size of an in-memory file system for a disk quota.
                await self._api.json(
                    "POST", "/volumes/create", doing=doing, body=volume_of(spec, self._api.engine.kind, with_size=False)
                )
        except Refusal as refusal:
            raise refusals.of(self._api.engine, f"make the volume {spec.name}", refusal.message) from None
        if spec.owner is not None and spec.memory_bytes is None and self._api.engine is not PODMAN:
            await self._own(spec.name, spec.owner)
        return Volume(name=spec.name, labels=dict(spec.labels))

    async def find(self, labels: Mapping[str, str]) -> list[Volume]:
        try:
            said = await self._api.json(
                "GET", "/volumes", doing="while volumes were listed", query={"filters": filters(labels)}
            )
        except Refusal as refusal:
            raise refusals.of(self._api.engine, "list its volumes", refusal.message) from None
        listed = (Volume(entry["Name"], entry.get("Labels") or {}) for entry in said.get("Volumes") or ())
        return [volume for volume in listed if carries(volume.labels, labels)]

    async def remove(self, name: str) -> None:
        try:
            await self._api.json("DELETE", f"/volumes/{name}", doing=f"while the volume {name} was removed")
        except Refusal as refusal:
            if refusal.status == 409 or "being used" in refusal.message:
                raise VolumeBusy(volume=name, nodes="a node that is still there") from None
            if refusal.status != 404:
                raise refusals.of(self._api.engine, f"remove the volume {name}", refusal.message) from None

    async def mounted(self, mount: Mount) -> dict[str, Any]:
        """A mount as the engine wants it. Checks that a volume exists, as the engine would create a missing one."""
        inside = {"Target": mount.target, "ReadOnly": mount.read_only}
        if mount.subpath is not None and _leads_out(mount.subpath):
            raise MountEscapes(
                source=mount.source, target=mount.target, problem=f"the subpath {mount.subpath!r} leads out of it"
            )
        if mount.kind is MountKind.BIND:
            source = _bind_source(mount)
            if not mount.seen_here:
                return {"Type": "bind", "Source": source, **inside}
            place = (await self.own_mounts()).place(source)
            if not place.volume:
                return {"Type": "bind", "Source": place.path, **inside}
            mount = replace(mount, kind=MountKind.VOLUME, source=place.volume, subpath=place.part)
        inspected = await self._inspected(mount.source)
        if inspected is None:
            raise VolumeMissing(runtime=self._api.engine.title, volume=mount.source)
        if mount.subpath is None:
            return {"Type": "volume", "Source": mount.source, **inside}
        if await self._api.has_subpaths():
            return {
                "Type": "volume", "Source": mount.source, "VolumeOptions": {"Subpath": mount.subpath}, **inside,
            }  # fmt: skip
        return {"Type": "bind", "Source": self._part_of_volume(mount, Path(inspected["Mountpoint"])), **inside}

    async def own_mounts(self) -> OwnMounts:
        """This SWOP's own mounts, asked for once: they do not change while it runs."""
        if self._own_mounts is None:
            self._own_mounts = await OwnMounts.ask(self._api, await own_container())
        return self._own_mounts

    async def read(self, name: str, to: BinaryIO, limit_bytes: int) -> None:
        """Writes a volume's content to ``to`` as an archive and rewinds it. Raises VolumeMissing, VolumeTooLarge."""
        async with self._carrier(name) as carrier:
            doing = f"while the volume {name} was copied"
            pieces = self._api.pieces(f"/containers/{carrier}/archive", doing=doing, query={"path": f"{INSIDE}/."})
            written = 0
            try:
                async with contextlib.aclosing(pieces):
                    async for piece in pieces:
                        written += len(piece)
                        if written > limit_bytes:
                            raise VolumeTooLarge(volume=name, limit=limit_bytes)
                        await asyncio.to_thread(to.write, piece)
            except Refusal as refusal:
                raise refusals.of(self._api.engine, f"copy the volume {name}", refusal.message) from None
        to.seek(0)

    async def write(self, name: str, content: BinaryIO) -> None:
        """Unpacks an archive into a volume. Raises VolumeMissing."""
        async with self._carrier(name) as carrier:
            doing = f"while the volume {name} was filled"
            try:
                await self._api.upload(
                    "PUT", f"/containers/{carrier}/archive", content, doing=doing, query={"path": INSIDE}
                )
            except Refusal as refusal:
                raise refusals.of(self._api.engine, f"fill the volume {name}", refusal.message) from None

    # --- how it is done -----------------------------------------------------------------------------

    async def _own(self, name: str, owner: Owner) -> None:
        """Gives the top directory of a volume to its owner, by unpacking an archive with that directory over it."""
        async with self._carrier(name) as carrier:
            content = archive.directory_of(INSIDE.rpartition("/")[2], owner.uid, owner.gid)
            query = {"path": INSIDE.rpartition("/")[0]}
            try:
                await self._api.upload(
                    "PUT", f"/containers/{carrier}/archive", content, doing=f"while {name} was made", query=query
                )
            except Refusal as refusal:
                raise refusals.of(self._api.engine, f"make the volume {name}", refusal.message) from None

    async def _inspected(self, name: str) -> dict[str, Any] | None:
        try:
            said: dict[str, Any] = await self._api.json(
                "GET", f"/volumes/{name}", doing=f"while the volume {name} was looked for"
            )
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise refusals.of(self._api.engine, f"find the volume {name}", refusal.message) from None
        return said

    def _part_of_volume(self, mount: Mount, whole: Path) -> str:
        """A part of a volume, for engines that cannot mount one: its directory on the host, if visible to us."""
        if not whole.is_dir():
            raise NotSupported(
                executor=self._api.engine.kind, option="subpath of a volume",
                problem="this engine cannot mount a part of a volume, and the SWOP cannot see where it is kept",
            )  # fmt: skip
        return _part(mount, whole)

    @contextlib.asynccontextmanager
    async def _carrier(self, volume: str) -> AsyncIterator[str]:
        """A container of an empty image, with the volume at INSIDE. It never runs and is removed at the end."""
        if await self._inspected(volume) is None:
            raise VolumeMissing(runtime=self._api.engine.title, volume=volume)
        body = {
            "Image": await self._empty_image(),
            "Cmd": ["never-run"],
            "Labels": {"swarm.carrier": "true"},
            "HostConfig": {"Mounts": [{"Type": "volume", "Source": volume, "Target": INSIDE}], "NetworkMode": "none"},
        }
        doing = f"while the volume {volume} was opened"
        try:
            made = await self._api.json("POST", "/containers/create", doing=doing, body=body)
        except Refusal as refusal:
            raise refusals.of(self._api.engine, f"open the volume {volume}", refusal.message) from None
        try:
            yield made["Id"]
        finally:
            await asyncio.shield(self._api.json("DELETE", f"/containers/{made['Id']}", doing=doing))

    async def _empty_image(self) -> str:
        """The id of an image without content, which is made if missing."""
        if self._carrier_image is not None:
            return self._carrier_image
        doing = "while an empty image was made"
        try:
            said = await self._api.json("GET", f"/images/{CARRIER_IMAGE}/json", doing=doing)
            found = str(said["Id"])
        except Refusal:
            query = {"fromSrc": "-", "repo": CARRIER_IMAGE, "tag": "latest"}
            try:
                said = await self._api.upload("POST", "/images/create", archive.empty(), doing=doing, query=query)
            except Refusal as refusal:
                raise refusals.of(self._api.engine, "make an empty image", refusal.message) from None
            found = str(said["status"])
        self._carrier_image = found
        return found


def filters(labels: Mapping[str, str]) -> str:
    """Labels as a filter for the list calls of engines."""
    return json.dumps({"label": [f"{name}={value}" for name, value in labels.items()]})


def _bind_source(mount: Mount) -> str:
    if not mount.source.startswith("/") or ".." in PurePosixPath(mount.source).parts:
        raise MountEscapes(source=mount.source, target=mount.target, problem="its source is not an absolute path")
    if mount.subpath is None:
        return mount.source
    return _part(mount, Path(mount.source))


def _part(mount: Mount, whole: Path) -> str:
    """A part of a directory. If the SWOP sees it, this checks that no link leads out of it."""
    part = whole / str(mount.subpath)
    if not whole.exists():  # the SWOP itself runs in a container; the engine will check
        return str(part)
    if not part.exists():
        raise MountMissing(source=part, target=mount.target, problem="no such file or directory")
    if not part.resolve().is_relative_to(whole.resolve()):
        raise MountEscapes(source=part, target=mount.target, problem="a link in it leads out of what is mounted")
    return str(part.resolve())


def _leads_out(subpath: str) -> bool:
    path = PurePosixPath(subpath)
    return path.is_absolute() or ".." in path.parts or not path.parts
