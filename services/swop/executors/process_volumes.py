"""The volumes of the executor PROCESS: directories of the SWOP, each with a file of labels beside its content."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from services.errors import MountEscapes, MountMissing, VolumeMissing, VolumeNameInUse
from services.swop.executors import archive
from services.swop.executors.base import carries
from services.swop.executors.sandbox import BindMount
from services.swop.executors.spec import Mount, MountKind, Volume, VolumeSpec


class ProcessVolumes:
    """``gone``: a directory on the same disk, for volumes that are being deleted."""

    def __init__(self, directory: Path, gone: Path, kind: str) -> None:
        self._directory = directory
        self._gone = gone
        self._kind = kind

    def create(self, spec: VolumeSpec) -> Volume:
        """Raises VolumeNameInUse."""
        directory = self._directory / spec.name
        try:
            directory.mkdir(mode=0o711)
        except FileExistsError:
            raise VolumeNameInUse(runtime=self._kind, volume=spec.name) from None
        (directory / "labels.json").write_text(json.dumps(dict(spec.labels)))
        content = directory / "content"
        content.mkdir()
        content.chmod(0o755 if spec.owner is None else 0o700)
        if spec.owner is not None and os.getuid() == 0:
            os.chown(content, spec.owner.uid, spec.owner.gid)
        return Volume(spec.name, dict(spec.labels))

    def find(self, labels: Mapping[str, str]) -> list[Volume]:
        found = []
        for directory in sorted(self._directory.iterdir()):
            with contextlib.suppress(OSError, ValueError):
                own = json.loads((directory / "labels.json").read_text())
                if carries(own, labels):
                    found.append(Volume(directory.name, own))
        return found

    def remove(self, name: str) -> None:
        discard(self._directory / name, self._gone)

    def write(self, name: str, source: Path) -> None:
        """Copies by an archive, as other executors do, so the same things are left out. Raises VolumeMissing."""
        target = self.content(name)
        with tempfile.TemporaryFile(dir=self._gone) as content:
            archive.packed(source, content)
            content.seek(0)
            archive.unpacked(content, target)

    def content(self, volume: str) -> Path:
        """Raises VolumeMissing."""
        content = self._directory / volume / "content"
        if PurePosixPath(volume).name != volume or not content.is_dir():
            raise VolumeMissing(runtime=self._kind, volume=volume)
        return content

    def bind(self, mount: Mount) -> BindMount:
        """Raises MountMissing, MountEscapes, VolumeMissing."""
        root = self.content(mount.source) if mount.kind is MountKind.VOLUME else Path(mount.source)
        source = root / (mount.subpath or "")
        if mount.subpath == "":
            raise MountEscapes(source=mount.source, target=mount.target, problem="its subpath is empty")
        if not source.exists():
            raise MountMissing(source=mount.source, target=mount.target, problem="there is no such file or directory")
        if mount.subpath and not source.resolve().is_relative_to(root.resolve()):
            raise MountEscapes(source=mount.source, target=mount.target, problem=f"{mount.subpath} leads out of it")
        return BindMount(source.resolve(), PurePosixPath(mount.target), mount.read_only)


def discard(directory: Path, gone: Path) -> None:
    """Removes a directory, which disappears at once. If this process is killed, the rest is in ``gone``."""
    if directory.parent != gone:
        try:
            directory = directory.rename(gone / f"{directory.parent.name}-{directory.name}")
        except FileNotFoundError:
            return
    shutil.rmtree(directory, ignore_errors=True)
