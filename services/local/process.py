"""Starts, awaits and stops child processes: the only launcher, for `swarm up`, the tests and the benchmarks.

A node gets one end of a socket pair (services.runtime.ready is the node's side). It writes one JSON line when it is
ready, and stops when the other end closes, so that no node outlives its starter.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.errors import ChildFailed, NotReady
from services.runtime.pidfd import open_pid
from services.runtime.ready import HELD_VARIABLE, READY_FD_VARIABLE

TAIL_LINES = 20
TAIL_BYTES = 16 * 1024
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
TASKS_END_WITHIN_S = 40.0  # a program that saves its model has 30 s to finish
KILLED_WITHIN_S = 5.0

# What a node needs from its starter's environment; everything else comes in flags. Proxies are left out: nodes of a
# local swarm talk only to this machine.
NODE_ENVIRONMENT = (
    "HOME", "PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER",
    "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "SWARM_LOG_LEVEL", "SWARM_LOG_FORMAT",
)  # fmt: skip

# These belong to a starter or to another swarm, never to a program started for this one. How nodes use gRPC
# (services/__init__.py) does not concern it either.
NOT_FOR_PROGRAMS = ("SWARM_LOOPBACK", READY_FD_VARIABLE, HELD_VARIABLE, "GRPC_SSL_CIPHER_SUITES")


@dataclass(frozen=True)
class Launch:
    """What to start. A node reports when it is ready; any other program counts as running once it is started.

    ``held``: the node loads its code, then waits for ``Child.go``. ``passed``: further descriptors that it gets.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    environment: Mapping[str, str]
    cwd: Path | None = None
    is_node: bool = True
    held: bool = False
    passed: tuple[int, ...] = ()


class Started(Protocol):
    """A child of this process."""

    @property
    def pid(self) -> int: ...

    def wait(self) -> int:
        """Waits for its exit code; a negative one is the signal that ended it."""


class Starter(Protocol):
    def start(self, launch: Launch, environment: dict[str, str], log: int, ready: int | None) -> Started:
        """Starts it in its own session. ``log``: for its output. ``ready``: the node's end of its socket.

        Raises OSError.
        """


class _ByExec:
    """Starts any program."""

    def start(self, launch: Launch, environment: dict[str, str], log: int, ready: int | None) -> Started:
        if ready is not None:
            environment[READY_FD_VARIABLE] = str(ready)
        return subprocess.Popen(
            launch.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
            cwd=launch.cwd, pass_fds=(*launch.passed, *([] if ready is None else [ready])), start_new_session=True,
        )  # fmt: skip


def node_environment(settings: str | None = None, **more: str) -> dict[str, str]:
    """A clean environment for one of our nodes. ``settings``: prefix of the node's own variables."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in NODE_ENVIRONMENT or (settings and name.startswith(settings))
    }
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def program_environment(**more: str) -> dict[str, str]:
    """The user's environment for the user's program, with ``more`` added."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_FOR_PROGRAMS}
    return {"PYTHONUNBUFFERED": "1", **kept, **more}


class Child:
    """One running child; ``exited`` is its exit code as a future, negative for the signal that ended it."""

    def __init__(self, launch: Launch, process: Started, line: socket.socket | None) -> None:
        self.name = launch.name
        self.log = launch.log
        self.pid = process.pid
        self.started_ticks = start_ticks(process.pid)
        self._launch = launch
        self._process = process
        self._line = line
        self._heard = b""
        self._log_from = 0
        self._pidfd = open_pid(process.pid)
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Future[bytes] = self._loop.create_future()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._reap)
        if line is not None:
            line.setblocking(False)
            self._loop.add_reader(line, self._hear)

    @classmethod
    def start(cls, launch: Launch, starter: Starter | None = None) -> "Child":
        """Starts it in its own session, with its output appended to its log. Needs a running event loop.

        ``starter``: by default one for any program. Raises ChildFailed if the program cannot be started,
        ProcessesNotWatched if no process can be watched here.
        """
        os.close(open_pid(os.getpid()))
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair() if launch.is_node else (None, None)
        environment = dict(launch.environment)
        if launch.held:
            environment[HELD_VARIABLE] = "1"
        with launch.log.open("ab") as log, theirs or contextlib.nullcontext():
            log_from = log.tell()
            ready = theirs.fileno() if theirs is not None else None
            try:
                process = (starter or _ByExec()).start(launch, environment, log.fileno(), ready)
            except OSError as error:
                if ours is not None:
                    ours.close()
                raise ChildFailed(child=launch.name, exit=127, tail=f"  {error}", log=launch.log) from None
        child = cls(launch, process, ours)
        child._log_from = log_from
        return child

    def go(self, **settings: Any) -> None:
        """Lets a held node begin, with the settings that were unknown when it was started."""
        if self._line is not None and not self.exited.done():
            with contextlib.suppress(BrokenPipeError):  # it has ended; ``ready`` will report that
                self._line.sendall(json.dumps(settings).encode() + b"\n")

    async def ready(self, within_s: float = READY_WITHIN_S) -> dict[str, Any]:
        """What the node reports once it is ready, such as its port.

        Raises ChildFailed if it ends before, NotReady after ``within_s``; both show its last lines. Only for nodes.
        """
        events: set[asyncio.Future[Any]] = {self._said, self.exited}
        await asyncio.wait(events, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if self._said.done() and (line := self._said.result()):
            facts: dict[str, Any] = json.loads(line)
            return facts
        if self._said.done():  # it closed its end without a message: it is about to exit
            await asyncio.wait({self.exited}, timeout=KILLED_WITHIN_S)
        if self.exited.done():
            raise self.failure()
        raise NotReady(child=self.name, seconds=within_s, tail=self.tail(), log=self.log)

    async def wait(self) -> int:
        """Waits for its end; returns its exit code."""
        return await asyncio.shield(self.exited)

    async def stop(self, within_s: float = STOP_WITHIN_S) -> bool:
        """TERM, wait, KILL. True if the KILL was needed. Does nothing if it has ended already."""
        if self.exited.done():
            return False
        self._signal(signal.SIGTERM)
        await asyncio.wait({self.exited}, timeout=within_s)
        if self.exited.done():
            return False
        self.kill()
        await asyncio.wait({self.exited}, timeout=KILLED_WITHIN_S)
        return True

    def kill(self) -> None:
        """Ends it and its whole process group at once."""
        if not self.exited.done():
            os.killpg(self.pid, signal.SIGKILL)

    def failure(self) -> ChildFailed:
        """Its end as an error: exit code and last lines."""
        return ChildFailed(child=self.name, exit=describe_exit(self.exited.result()), tail=self.tail(), log=self.log)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines that it wrote in this run, indented."""
        with self.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_from, end - TAIL_BYTES))
            text = log.read().decode(errors="replace")
        last = [line.rstrip() for line in text.splitlines()][-lines:]
        return "\n".join(f"  {line}" for line in last) or "  (it wrote nothing)"

    def rotate_log(self, most_bytes: int) -> None:
        """Moves a log that is longer to ``<log>.1``, replacing an earlier one, and empties it.

        The child continues to write to the same file: lines written at just this moment may be lost.
        """
        if self.log.stat().st_size <= most_bytes:
            return
        shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
        os.truncate(self.log, 0)
        self._log_from = 0

    def _hear(self) -> None:
        """Data from the node: the ready line, a part of it, or the end."""
        if self._line is None:
            return
        try:
            piece = self._line.recv(4096)
        except BlockingIOError:
            return
        self._heard += piece
        if piece and not self._heard.endswith(b"\n"):
            return
        self._loop.remove_reader(self._line)
        if not self._said.done():
            self._said.set_result(self._heard if piece else b"")

    def _signal(self, number: signal.Signals) -> None:
        """Signals only the node itself, which stops what it started in order; of any other program, the whole group."""
        if self._launch.is_node:
            signal.pidfd_send_signal(self._pidfd, number)
        else:
            os.killpg(self.pid, number)

    def _reap(self) -> None:
        """The child has ended. Kills its group before it is reaped, as its id cannot yet belong to another process."""
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        if self._line is not None:
            if not self._said.done():
                self._hear()
            self._loop.remove_reader(self._line)
            self._line.close()
        self.exited.set_result(code)


def describe_exit(code: int) -> str:
    """``3``, or ``-9 (SIGKILL)`` for a signal."""
    return str(code) if code >= 0 else f"{code} ({signal.Signals(-code).name})"


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; with its id, this identifies it for good. 0: it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])
