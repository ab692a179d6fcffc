"""The executor PROCESS: nodes are local processes, images are Python environments of this host.

Each node has a directory with its description, its output and how it ended, so that the next SWOP finds it again; each
volume has one too. If bubblewrap is installed, a program sees its mounts at their documented paths and can write
nothing else on the host. Without it, paths in its arguments and variables are changed to the real ones.
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
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from services.errors import (
    NodeNameInUse,
    NodeUnknown,
    ProgramMissing,
    PublishedPortInUse,
    StorageError,
    VolumeBusy,
)
from services.runtime import logs
from services.swop.executors.base import TAIL_BYTES, TAIL_LINES, Executor, carries, last_lines
from services.swop.executors.environments import CA_VARIABLES, CODE_ROOT, Environments, LocalEnvironment, code_of
from services.swop.executors.hiding import FileSystemView
from services.swop.executors.pids import grandchildren, number_in, start_ticks, until_ended
from services.swop.executors.process_volumes import ProcessVolumes, discard
from services.swop.executors.sandbox import BindMount, arguments, unconfined
from services.swop.executors.spec import (
    BuildSpec,
    Image,
    MountKind,
    NodeSpec,
    NodeState,
    PullSpec,
    Runtime,
    StartedProgram,
    Volume,
    VolumeSpec,
)

STARTED_WITHIN_S = 20.0
KILLED_WITHIN_S = 10.0
LOOK_EVERY_S = 0.02
# The capabilities that root keeps inside: fewer than in Docker. It cannot mount or make devices.
_KEPT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
LESS_THAN_ROOT = ("--cap-drop", "ALL", *(word for name in _KEPT for word in ("--cap-add", f"CAP_{name}")))
NO_BUBBLEWRAP = (
    "bubblewrap is not installed: programs run unconfined, and see their mounts where these really are. "
    "Install it (Debian: apt-get install bubblewrap)."
)

_log = logs.get("swop")


class ProcessExecutor(Executor):
    """``directory`` belongs to the SWOP alone. ``bubblewrap``: path of the program; None: from the PATH. ``secrets``:
    files and directories of the host that no program sees.
    """

    kind: ClassVar[str] = "PROCESS"
    shares_host_network: ClassVar[bool] = True
    builds_images: ClassVar[bool] = False

    def __init__(
        self,
        directory: Path,
        images: Mapping[str, LocalEnvironment],
        bubblewrap: str | None = None,
        secrets: Sequence[Path] = (),
    ) -> None:
        self._nodes, volumes = directory / "nodes", directory / "volumes"
        self._gone = directory / "gone"
        self._volumes = ProcessVolumes(volumes, self._gone, self.kind)
        self._environments = Environments(images)
        self._secrets = (directory, *secrets)
        self._reaping: set[asyncio.Task[None]] = set()
        self._bubblewrap = shutil.which("bwrap") if bubblewrap is None else bubblewrap
        try:
            for part in (self._nodes, volumes, self._gone):
                part.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.chmod(0o711)  # programs of other users reach their volumes through it
            volumes.chmod(0o711)
            for left in self._gone.iterdir():  # left by a SWOP that was killed
                discard(left, self._gone)
        except OSError as error:
            raise StorageError(path=directory, problem=error.strerror or str(error)) from None

    # --- life ---------------------------------------------------------------------------------------

    async def describe(self) -> Runtime:
        version = "unconfined"
        notes: tuple[str, ...] = (NO_BUBBLEWRAP,)
        if self._bubblewrap:
            version, notes = await asyncio.to_thread(self._try_bubblewrap)
        return Runtime(self.kind, version, "this host", notes=notes)

    def _try_bubblewrap(self) -> tuple[str, tuple[str, ...]]:
        """Kernels may forbid what bubblewrap needs; programs then run without it."""
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
        for task in list(self._reaping):
            task.cancel()
        await asyncio.gather(*self._reaping, return_exceptions=True)

    # --- nodes --------------------------------------------------------------------------------------

    async def start(self, spec: NodeSpec) -> StartedProgram:
        image = self._environments.image(spec.image)
        binds = [self._volumes.bind(mount) for mount in spec.mounts]
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

    def _command(
        self, spec: NodeSpec, image: LocalEnvironment, binds: Sequence[BindMount], directory: Path
    ) -> dict[str, Any]:
        """What the supervisor shall run. Raises ProgramMissing."""
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
        for name in CA_VARIABLES:
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
            view = FileSystemView.of(self._secrets, code_of(image))
            confined = arguments(binds, working_dir, [*devices, *map(Path, spec.devices.paths)], spec.hostname, view)
            if os.getuid() == 0:
                # bubblewrap mounts as root, who may enter directories that the program's user may not; then it gives up
                # root.
                user = command | {"uid": None, "gid": None, "confined": True}
                return user | {"argv": [self._bubblewrap, *confined, *LESS_THAN_ROOT, *_as_user(spec), *argv]}
            return command | {"confined": True, "argv": [self._bubblewrap, *confined, *argv]}
        return command | unconfined(argv, environment, binds, working_dir, directory)

    async def _supervise(self, spec: NodeSpec, directory: Path) -> None:
        """Starts the supervisor and waits until the program runs. Raises ProgramMissing."""
        argv = [sys.executable, "-m", "services.swop.executors.supervisor", str(directory)]
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(CODE_ROOT)}
        pid = _spawned(argv, environment)
        (directory / "supervisor").write_text(f"{pid} {start_ticks(pid)}")
        ended = asyncio.create_task(_reaped(pid))
        self._reaping.add(ended)
        ended.add_done_callback(self._reaping.discard)
        deadline = asyncio.get_running_loop().time() + STARTED_WITHIN_S
        while not (directory / "pid").exists():
            await asyncio.wait({ended}, timeout=LOOK_EVERY_S)
            if (directory / "failed").exists() or ended.done() or asyncio.get_running_loop().time() > deadline:
                failed = directory / "failed"
                problem = failed.read_text() if failed.exists() else "its supervisor ended"
                raise ProgramMissing(image=spec.image, program=" ".join(spec.entrypoint or ()), problem=problem)

    async def node(self, node_id: str) -> StartedProgram:
        return self._read(node_id)

    def _read(self, node_id: str) -> StartedProgram:
        directory = self._nodes / node_id
        try:
            record = json.loads((directory / "node.json").read_text())
        except (OSError, ValueError):
            raise NodeUnknown(runtime=self.kind, node=node_id) from None
        code = number_in(directory / "exit")
        alive = code is None and self._supervisor(node_id) is not None
        state = NodeState.RUNNING if alive else NodeState.EXITED
        ended = (directory / "exit").stat().st_mtime if (directory / "exit").exists() else None
        return StartedProgram(
            id=node_id, name=record["name"], image=record["image"], state=state, exit_code=code,
            labels=record["labels"], ports={int(port): int(port) for port in record["ports"]},
            started_at=datetime.fromisoformat(record["started_at"]),
            ended_at=datetime.fromtimestamp(ended, UTC) if ended else None,
        )  # fmt: skip

    async def find(self, labels: Mapping[str, str]) -> list[StartedProgram]:
        found = []
        for directory in self._nodes.iterdir():
            with contextlib.suppress(NodeUnknown):
                found.append(self._read(directory.name))
        wanted = [node for node in found if carries(node.labels, labels)]
        return sorted(wanted, key=lambda node: node.started_at or datetime.min.replace(tzinfo=UTC))

    async def wait(self, node_id: str) -> StartedProgram:
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

    async def stop(self, node_id: str, grace_s: float) -> StartedProgram:
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
        await asyncio.to_thread(discard, directory, self._gone)

    async def _kill(self, node_id: str) -> None:
        """Kills the program with its whole session; the supervisor records how it ended."""
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
        """Signals a program's process group, but only while its supervisor lives: so the pid cannot be another
        process's.
        """
        pid = number_in(self._nodes / node_id / "pid")
        if pid is None or self._supervisor(node_id) is None:
            return
        # A TERM would end bubblewrap and its init at once, and with them the program, before it could react.
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
        """The supervisor's pid; None if it has ended."""
        with contextlib.suppress(OSError, ValueError):
            pid, ticks = (self._nodes / node_id / "supervisor").read_text().split()
            if int(ticks) and start_ticks(int(pid)) == int(ticks):
                return int(pid)
        return None

    # --- volumes ------------------------------------------------------------------------------------

    async def create_volume(self, spec: VolumeSpec) -> Volume:
        return self._volumes.create(spec)

    async def find_volumes(self, labels: Mapping[str, str]) -> list[Volume]:
        return self._volumes.find(labels)

    async def remove_volume(self, name: str) -> None:
        users = [
            node.name for node in await self.find({}) if self._uses(node, name) and node.state is NodeState.RUNNING
        ]
        if users:
            raise VolumeBusy(volume=name, nodes=", ".join(users))
        await asyncio.to_thread(self._volumes.remove, name)

    async def import_volume(self, name: str, directory: Path) -> None:
        await asyncio.to_thread(self._volumes.write, name, directory)

    def _uses(self, node: StartedProgram, volume: str) -> bool:
        record = json.loads((self._nodes / node.id / "node.json").read_text())
        return volume in record["volumes"]

    # --- images -------------------------------------------------------------------------------------

    async def image(self, name: str) -> Image:
        return Image(name, f"local:{self._environments.image(name).python}")

    def build(self, spec: BuildSpec) -> AsyncGenerator[str, None]:
        return self._environments.build(spec)

    def pull(self, spec: PullSpec) -> AsyncGenerator[str, None]:
        return self._environments.pull(spec)

    async def remove_image(self, name: str) -> None:
        """Does nothing: environments belong to the owner of the host."""


def _spawned(argv: list[str], environment: Mapping[str, str]) -> int:
    """Starts a process in its own session, without output, that outlives this one. Returns its pid."""
    nowhere = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
    return os.posix_spawn(argv[0], argv, dict(environment), file_actions=nowhere, setsid=True)


async def _reaped(pid: int) -> None:
    """Returns when a child has ended. Unlike a waiting thread, it can be cancelled at any time."""
    await until_ended(pid)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it has ended


def _as_user(spec: NodeSpec) -> list[str]:
    """The words before a program's own when root starts it for another user."""
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


def _record(spec: NodeSpec) -> dict[str, Any]:
    return {
        "name": spec.name, "image": spec.image, "labels": dict(spec.labels),
        "ports": [port.inside for port in spec.ports],
        "volumes": [mount.source for mount in spec.mounts if mount.kind is MountKind.VOLUME],
        "started_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
