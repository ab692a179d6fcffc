"""What a running local swarm leaves on disk for `swarm status` and `swarm down`: its processes and their ports."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from services.errors import AlreadyRunning, DirUnusable, NotRunning
from services.local.process import Child, start_ticks

STATE_FILE = "swarm.json"
PORTS_FILE = "ports.json"
LOCK_FILE = "lock"


@dataclass(frozen=True)
class Running:
    """One process, identified for good by its id and start time (clock ticks since boot)."""

    name: str
    pid: int
    started_ticks: int
    log: str = ""
    port: int = 0

    @classmethod
    def this_process(cls) -> Self:
        return cls("swarm up", os.getpid(), start_ticks(os.getpid()))

    @classmethod
    def child(cls, child: Child, port: int) -> Self:
        return cls(child.name, child.pid, child.started_ticks, str(child.log), port)

    @property
    def alive(self) -> bool:
        return self.started_ticks != 0 and start_ticks(self.pid) == self.started_ticks


@dataclass(frozen=True)
class SwarmState:
    """The swarm of one directory. ``processes`` are in the order of their start."""

    supervisor: Running
    processes: tuple[Running, ...] = ()
    sn_address: str = ""
    chain: str = ""

    def write(self, directory: Path) -> None:
        """Replaces the file, whole or not at all."""
        temporary = directory / f".{STATE_FILE}"
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        temporary.replace(directory / STATE_FILE)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Raises NotRunning if there is no state file, or none that can be read."""
        try:
            found: dict[str, Any] = json.loads((directory / STATE_FILE).read_text())
            processes = tuple(Running(**process) for process in found.pop("processes"))
            return cls(supervisor=Running(**found.pop("supervisor")), processes=processes, **found)
        except (OSError, ValueError, TypeError, KeyError):
            raise NotRunning(dir=directory) from None

    @staticmethod
    def forget(directory: Path) -> None:
        (directory / STATE_FILE).unlink(missing_ok=True)


def remember_ports(directory: Path, ports: Mapping[str, int]) -> None:
    """Saves the ports of the nodes for the next run."""
    (directory / PORTS_FILE).write_text(json.dumps(dict(ports)) + "\n")


def remembered_ports(directory: Path, host: str) -> dict[str, int]:
    """The nodes' ports of the last run that are free now: peers find a node most easily where it was."""
    try:
        found: dict[str, int] = json.loads((directory / PORTS_FILE).read_text())
        return {name: port for name, port in found.items() if _is_free(host, port)}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):
        return {}


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port)):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Locks a directory for one swarm; the kernel releases the lock however this process ends.

    Raises DirUnusable, and AlreadyRunning if another process holds it or has left nodes that still run.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / LOCK_FILE).open("w")
    except OSError as error:
        raise DirUnusable(dir=directory, problem=error.strerror or error) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(dir=directory) from None
        except OSError as error:
            raise DirUnusable(dir=directory, problem=f"its file system has no locks ({error.strerror})") from None
        with contextlib.suppress(NotRunning):
            if any(process.alive for process in SwarmState.read(directory).processes):
                raise AlreadyRunning(dir=directory)
        yield
