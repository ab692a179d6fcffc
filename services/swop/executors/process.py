"""The executor PROCESS: nodes are local processes, images are Python environments of this host.

Each node has a directory with what it is, its output and how it ended, so that the next SWOP finds it again; each
volume has one too. Where bubblewrap is installed, a program sees its mounts at their documented paths and can write
nothing else of the host. Without it, paths in its arguments and variables are changed to where they really are.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from services.errors import (
    EnvironmentUnusable,
    ImageNotMapped,
    MountEscapes,
    MountMissing,
    NodeNameInUse,
    NodeUnknown,
    ProgramMissing,
    PublishedPortInUse,
    StorageError,
    VolumeBusy,
    VolumeMissing,
    VolumeNameInUse,
    VolumeTooLarge,
)
from services.runtime import logs
from services.swop.executors import archive
from services.swop.executors.base import TAIL_BYTES, TAIL_LINES, Executor, carries, last_lines
from services.swop.executors.pids import grandchildren, number_in, start_ticks, until_ended
from services.swop.executors.sandbox import Bind, arguments, is_private, unconfined
from services.swop.executors.spec import (
    BuildSpec,
    Image,
    Mount,
    MountKind,
    Node,
    NodeSpec,
    NodeState,
    PullSpec,
    Runtime,
    Volume,
    VolumeSpec,
)

STARTED_WITHIN_S = 20.0
KILLED_WITHIN_S = 10.0
LOOK_EVERY_S = 0.02
# What root keeps inside: less than Docker leaves it; it can mount nothing and make no device.
_KEPT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
LESS_THAN_ROOT = ("--cap-drop", "ALL", *(word for name in _KEPT for word in ("--cap-add", f"CAP_{name}")))
CODE_ROOT = Path(__file__).parents[3]
NO_BUBBLEWRAP = (
    "bubblewrap is not installed: programs run unconfined, and see their mounts where these really are. "
    "Install it (Debian: apt-get install bubblewrap)."
)

_log = logs.get("swop")


@dataclass(frozen=True)
class LocalImage:
    """``python``: of the environment that stands for an image. ``entrypoint``: of an image that is our own code."""

    python: Path
    entrypoint: tuple[str, ...] = ()


class ProcessExecutor(Executor):
    """``directory`` belongs to the SWOP alone. ``bubblewrap``: the program; None where it is looked for."""

    kind: ClassVar[str] = "PROCESS"
    shares_host_network: ClassVar[bool] = True
    builds_images: ClassVar[bool] = False

    def __init__(self, directory: Path, images: Mapping[str, LocalImage], bubblewrap: str | None = None) -> None:
        self._nodes = directory / "nodes"
        self._volumes = directory / "volumes"
        self._images = {_tagged(name): image for name, image in images.items()}
        self._bubblewrap = shutil.which("bwrap") if bubblewrap is None else bubblewrap
        try:
            for part in (self._nodes, self._volumes):
                part.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.chmod(0o711)  # programs of another user reach their volumes by it
            self._volumes.chmod(0o711)
        except OSError as error:
            raise StorageError(path=directory, problem=error.strerror or str(error)) from None

    # --- life ---------------------------------------------------------------------------------------

    async def describe(self) -> Runtime:
        version = "unconfined"
        notes: tuple[str, ...] = (NO_BUBBLEWRAP,)
        if self._bubblewrap:
            version, notes = await asyncio.to_thread(self._try_bubblewrap)
        return Runtime(self.kind, version, "this host", rootless=os.getuid() != 0, notes=notes)

    def _try_bubblewrap(self) -> tuple[str, tuple[str, ...]]:
        """Kernels may forbid what it needs: then programs run without it."""
        assert self._bubblewrap  # noqa: S101
        said = subprocess.run([self._bubblewrap, "--version"], capture_output=True, text=True, check=False)
        argv = [self._bubblewrap, *arguments((), "/"), "true"]
        tried = subprocess.run(argv, capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return said.stdout.strip(), ()
        self._bubblewrap = ""
        return "unconfined", (f"bubblewrap does not work here ({tried.stderr.strip()}): programs run unconfined.",)

    async def close(self) -> None:
        """Nodes go on."""

    # --- nodes --------------------------------------------------------------------------------------

    async def start(self, spec: NodeSpec) -> Node:
        image = self._image_of(spec.image)
        binds = [self._bind(mount) for mount in spec.mounts]
        _expect_free(spec)
        directory = self._nodes / spec.name
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            raise NodeNameInUse(runtime=self.kind, node=spec.name) from None
        try:
            command = self._command(spec, image, binds, directory)
            (directory / "command.json").write_text(json.dumps(command))
            (directory / "node.json").write_text(json.dumps(_record(spec)))
            await self._supervise(spec, directory)
        except BaseException:
            await self.remove(spec.name)
            raise
        return await self.node(spec.name)

    def _command(self, spec: NodeSpec, image: LocalImage, binds: Sequence[Bind], directory: Path) -> dict[str, Any]:
        """What the supervisor is to run. Raises ProgramMissing."""
        working_dir = spec.working_dir or "/tmp"  # noqa: S108 - inside
        argv = [*image.entrypoint, *(spec.entrypoint or ()), *(spec.command or ())]
        path = f"{image.python.parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        if not argv:
            raise ProgramMissing(image=spec.image, program="(none)", problem="neither image nor task name a program")
        program = shutil.which(argv[0], path=path)
        if program is None and not any(PurePosixPath(argv[0]).is_relative_to(bind.target) for bind in binds):
            raise ProgramMissing(image=spec.image, program=argv[0], problem="there is no such program")
        environment = {
            "PATH": path, "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1",  # noqa: S108
            "HOSTNAME": spec.hostname or spec.name, **spec.environment,
        }  # fmt: skip
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            if name in os.environ:
                environment.setdefault(name, os.environ[name])
        if image.entrypoint:
            environment["PYTHONPATH"] = str(CODE_ROOT)
        command = {
            "uid": spec.user.uid if spec.user else None, "gid": spec.user.gid if spec.user else None,
            "environment": environment, "cwd": "/", "argv": argv,
        }  # fmt: skip
        if self._bubblewrap:
            devices = sorted(Path("/dev").glob("nvidia*")) if spec.devices.gpus else ()
            confined = arguments(
                [*_code(image), *binds], working_dir, [*devices, *map(Path, spec.devices.paths)], spec.hostname
            )
            if os.getuid() == 0:
                # Mounts are made by root, who may enter where the program's user may not; then it gives root up.
                user = command | {"uid": None, "gid": None, "confined": True}
                return user | {"argv": [self._bubblewrap, *confined, *LESS_THAN_ROOT, *_as_user(spec), *argv]}
            return command | {"confined": True, "argv": [self._bubblewrap, *confined, *argv]}
        return command | unconfined(argv, environment, binds, working_dir, directory)

    async def _supervise(self, spec: NodeSpec, directory: Path) -> None:
        """Starts the supervisor and waits until the program runs. Raises ProgramMissing."""
        argv = [sys.executable, "-m", "services.swop.executors.supervisor", str(directory)]
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(CODE_ROOT)}
        supervisor = subprocess.Popen(  # noqa: ASYNC220 - asyncio's own would end it with this process
            argv, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        (directory / "supervisor").write_text(f"{supervisor.pid} {start_ticks(supervisor.pid)}")
        ended = asyncio.ensure_future(asyncio.to_thread(supervisor.wait))
        deadline = asyncio.get_running_loop().time() + STARTED_WITHIN_S
        while not (directory / "pid").exists():
            await asyncio.wait({ended}, timeout=LOOK_EVERY_S)
            if (directory / "failed").exists() or ended.done() or asyncio.get_running_loop().time() > deadline:
                failed = directory / "failed"
                problem = failed.read_text() if failed.exists() else "its supervisor ended"
                raise ProgramMissing(image=spec.image, program=" ".join(spec.entrypoint or ()), problem=problem)

    async def node(self, node_id: str) -> Node:
        return self._read(node_id)

    def _read(self, node_id: str) -> Node:
        directory = self._nodes / node_id
        try:
            record = json.loads((directory / "node.json").read_text())
        except (OSError, ValueError):
            raise NodeUnknown(runtime=self.kind, node=node_id) from None
        code = number_in(directory / "exit")
        alive = code is None and self._supervisor(node_id) is not None
        state = NodeState.RUNNING if alive else NodeState.EXITED
        ended = (directory / "exit").stat().st_mtime if (directory / "exit").exists() else None
        return Node(
            id=node_id, name=record["name"], image=record["image"], state=state, exit_code=code,
            labels=record["labels"], ports={int(port): int(port) for port in record["ports"]},
            started_at=datetime.fromisoformat(record["started_at"]),
            ended_at=datetime.fromtimestamp(ended, UTC) if ended else None,
        )  # fmt: skip

    async def find(self, labels: Mapping[str, str]) -> list[Node]:
        found = []
        for directory in self._nodes.iterdir():
            with contextlib.suppress(NodeUnknown):
                found.append(self._read(directory.name))
        wanted = [node for node in found if carries(node.labels, labels)]
        return sorted(wanted, key=lambda node: node.started_at or datetime.min.replace(tzinfo=UTC))

    async def wait(self, node_id: str) -> Node:
        node = self._read(node_id)
        if node.state is NodeState.RUNNING and (pid := self._supervisor(node_id)) is not None:
            await until_ended(pid)
            node = self._read(node_id)
        return node

    async def tail(self, node_id: str, lines: int = TAIL_LINES, limit_bytes: int = TAIL_BYTES) -> list[str]:
        self._read(node_id)
        output = b""
        for name in ("log.old", "log"):
            with contextlib.suppress(OSError), (self._nodes / node_id / name).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - limit_bytes))
                output += file.read()
        return last_lines(output, lines, limit_bytes)

    async def stop(self, node_id: str, grace_s: float) -> Node:
        node = self._read(node_id)
        if node.state is not NodeState.RUNNING:
            return node
        self._signal(node_id, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                return await self.wait(node_id)
        await self._kill(node_id)
        return self._read(node_id)

    async def remove(self, node_id: str) -> None:
        directory = self._nodes / node_id
        if not directory.exists():
            return
        await self._kill(node_id)
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def _kill(self, node_id: str) -> None:
        """The program with all of its session; the supervisor writes down its end."""
        self._signal(node_id, signal.SIGKILL)
        if (pid := self._supervisor(node_id)) is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILLED_WITHIN_S):
                await until_ended(pid)
                return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _signal(self, node_id: str, number: signal.Signals) -> None:
        """To the group of a program whose supervisor still stands over it: so its number means no other one."""
        pid = number_in(self._nodes / node_id / "pid")
        if pid is None or self._supervisor(node_id) is None:
            return
        # bubblewrap itself and its init would end at once, and the program with them, unasked.
        inside = grandchildren(pid) if number == signal.SIGTERM and self._is_confined(node_id) else []
        with contextlib.suppress(ProcessLookupError, PermissionError):
            for program in inside:
                os.kill(program, number)
            if not inside:
                os.killpg(pid, number)

    def _is_confined(self, node_id: str) -> bool:
        try:
            return bool(json.loads((self._nodes / node_id / "command.json").read_text()).get("confined"))
        except (OSError, ValueError):
            return False

    def _supervisor(self, node_id: str) -> int | None:
        """Its process number while it lives."""
        with contextlib.suppress(OSError, ValueError):
            pid, ticks = (self._nodes / node_id / "supervisor").read_text().split()
            if int(ticks) and start_ticks(int(pid)) == int(ticks):
                return int(pid)
        return None

    # --- volumes ------------------------------------------------------------------------------------

    async def create_volume(self, spec: VolumeSpec) -> Volume:
        directory = self._volumes / spec.name
        try:
            directory.mkdir(mode=0o711)
        except FileExistsError:
            raise VolumeNameInUse(runtime=self.kind, volume=spec.name) from None
        (directory / "labels.json").write_text(json.dumps(dict(spec.labels)))
        content = directory / "content"
        content.mkdir()
        content.chmod(0o755 if spec.owner is None else 0o700)
        if spec.owner is not None and os.getuid() == 0:
            os.chown(content, spec.owner.uid, spec.owner.gid)
        return Volume(spec.name, dict(spec.labels))

    async def find_volumes(self, labels: Mapping[str, str]) -> list[Volume]:
        found = []
        for directory in sorted(self._volumes.iterdir()):
            with contextlib.suppress(OSError, ValueError):
                own = json.loads((directory / "labels.json").read_text())
                if carries(own, labels):
                    found.append(Volume(directory.name, own))
        return found

    async def remove_volume(self, name: str) -> None:
        users = [
            node.name for node in await self.find({}) if self._uses(node, name) and node.state is NodeState.RUNNING
        ]
        if users:
            raise VolumeBusy(volume=name, nodes=", ".join(users))
        await asyncio.to_thread(shutil.rmtree, self._volumes / name, ignore_errors=True)

    async def export_volume(self, name: str, directory: Path, limit_bytes: int) -> None:
        await asyncio.to_thread(self._copy, name, self._content(name), directory, limit_bytes)

    async def import_volume(self, name: str, directory: Path) -> None:
        await asyncio.to_thread(self._copy, name, directory, self._content(name), None)

    def _copy(self, volume: str, source: Path, target: Path, limit_bytes: int | None) -> None:
        """As an archive, like other executors: what does not belong into one stays behind."""
        with tempfile.TemporaryFile(dir=self._nodes) as content:
            archive.packed(source, content)
            if limit_bytes is not None and content.tell() > limit_bytes:
                raise VolumeTooLarge(volume=volume, limit=limit_bytes)
            content.seek(0)
            archive.unpacked(content, target)

    def _uses(self, node: Node, volume: str) -> bool:
        record = json.loads((self._nodes / node.id / "node.json").read_text())
        return volume in record["volumes"]

    def _content(self, volume: str) -> Path:
        content = self._volumes / volume / "content"
        if PurePosixPath(volume).name != volume or not content.is_dir():
            raise VolumeMissing(runtime=self.kind, volume=volume)
        return content

    def _bind(self, mount: Mount) -> Bind:
        """Raises MountMissing, MountEscapes, VolumeMissing."""
        root = self._content(mount.source) if mount.kind is MountKind.VOLUME else Path(mount.source)
        source = root / (mount.subpath or "")
        if mount.subpath == "":
            raise MountEscapes(source=mount.source, target=mount.target, problem="its subpath is empty")
        if not source.exists():
            raise MountMissing(source=mount.source, target=mount.target, problem="there is no such file or directory")
        if mount.subpath and not source.resolve().is_relative_to(root.resolve()):
            raise MountEscapes(source=mount.source, target=mount.target, problem=f"{mount.subpath} leads out of it")
        return Bind(source.resolve(), PurePosixPath(mount.target), mount.read_only)

    # --- images -------------------------------------------------------------------------------------

    async def image(self, name: str) -> Image:
        image = self._image_of(name)
        return Image(name, f"local:{image.python}")

    def _image_of(self, name: str) -> LocalImage:
        """Raises ImageNotMapped, EnvironmentUnusable."""
        image = self._images.get(_tagged(name))
        if image is None:
            raise ImageNotMapped(image=name, mapped=", ".join(self._images) or "none")
        if not os.access(image.python, os.X_OK):
            raise EnvironmentUnusable(python=image.python, image=name, problem="there is no such program")
        return image

    async def build(self, spec: BuildSpec) -> AsyncGenerator[str, None]:
        """Nothing is built: an image that the profile maps is there already."""
        image = self._image_of(spec.image)
        yield f"{spec.image} is the environment of {image.python}, as the profile says; no step was run"

    async def pull(self, spec: PullSpec) -> AsyncGenerator[str, None]:
        name = f"{spec.repository}:{spec.tag}"
        image = self._image_of(name)
        yield f"{name} is the environment of {image.python}, as the profile says; nothing was fetched"

    async def remove_image(self, name: str) -> None:
        """Environments are the owner's."""


def _as_user(spec: NodeSpec) -> list[str]:
    """What goes before a program's words where root starts it for another user."""
    if spec.user is None or spec.user.uid == 0:
        return []
    return ["setpriv", f"--reuid={spec.user.uid}", f"--regid={spec.user.gid}", "--clear-groups", "--"]


def _expect_free(spec: NodeSpec) -> None:
    """Raises PublishedPortInUse. A node listens on the host itself, so its port must be free there."""
    for port in spec.ports:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((port.address or "", port.outside or 0))
            except OSError:
                raise PublishedPortInUse(port=port.outside, node=spec.name) from None


def _code(image: LocalImage) -> list[Bind]:
    """An image's environment, and this very code, where they lie in a directory that programs have of their own."""
    roots = [PurePosixPath(path) for path in dict.fromkeys((image.python.parents[1], CODE_ROOT))]
    return [Bind(Path(root), root, read_only=True) for root in roots if is_private(root)]


def _record(spec: NodeSpec) -> dict[str, Any]:
    return {
        "name": spec.name, "image": spec.image, "labels": dict(spec.labels),
        "ports": [port.inside for port in spec.ports],
        "volumes": [mount.source for mount in spec.mounts if mount.kind is MountKind.VOLUME],
        "started_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip


def _tagged(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"
