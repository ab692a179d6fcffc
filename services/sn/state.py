"""What an SN keeps in its data directory beside its chain: which swarm it belongs to."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self, get_args

from services.chain.factory import Choice, Kind
from services.errors import SettingsError, StorageError

FILE = "sn-state.json"
LOCK = "lock"
VERSION = 1


@dataclass(frozen=True)
class KnownSN:
    """Another SN and the last known address of its API."""

    name: str
    host: str
    port: int


@dataclass
class SNState:
    """``chain``: geth or embedded. ``trainings``: addresses by name, only for people; the directory on the chain
    counts.

    ``peers``: the other SNs, to find them again after a restart. ``joined_at``: the block from which this SN may write;
    0 for the SN that founded the chain.
    """

    chain: Kind
    network: str
    trainings: dict[str, str] = field(default_factory=dict)
    peers: list[KnownSN] = field(default_factory=list)
    joined_at: int = 0

    @classmethod
    def load(cls, data_dir: Path) -> Self | None:
        """The state of an earlier run; None at the first start. Raises StorageError if it cannot be read."""
        path = data_dir / FILE
        try:
            found = json.loads(path.read_text())
            if found["chain"] not in get_args(Kind):
                raise ValueError(f"chain {found['chain']}")
            peers = [KnownSN(**peer) for peer in found.get("peers", ())]
            return cls(
                chain=found["chain"],
                network=found["network"],
                trainings=dict(found["trainings"]),
                peers=peers,
                joined_at=int(found.get("joined_at", 0)),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(path=path, problem=f"it is not a state file of an SN ({error})") from None

    def save(self, data_dir: Path) -> None:
        """Replaces the file atomically: a crash leaves the old file or the new one. Raises StorageError."""
        path = data_dir / FILE
        draft = path.with_suffix(".draft")
        try:
            with draft.open("w") as file:
                json.dump({"version": VERSION, **asdict(self)}, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as error:
            raise StorageError(path=path, problem=error.strerror or str(error)) from None


def remember_peers(data_dir: Path, peers: list[KnownSN]) -> None:
    """Keeps where the other SNs are, if that has changed."""
    state = SNState.load(data_dir)
    if state is not None and state.peers != peers:
        state.peers = peers
        state.save(data_dir)


def chain_choice(wanted: Choice, data_dir: Path) -> Choice:
    """Which chain to open: the kind in this data directory. Raises SettingsError if another one is wanted."""
    state = SNState.load(data_dir)
    if state is None or wanted == state.chain:
        return wanted
    if wanted != "auto":
        problem = f"it is {wanted}, but {data_dir} holds a swarm whose chain is {state.chain}"
        raise SettingsError(name="--chain", problem=problem, command="sn")
    return state.chain


@contextmanager
def claimed(data_dir: Path) -> Iterator[Path]:
    """Creates the data directory if it is missing, and keeps every other node out of it.

    Raises StorageError if it cannot be written or is in use.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(path=data_dir, problem=(error.strerror or str(error)).lower()) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        in_use = isinstance(error, BlockingIOError)
        problem = "another running node uses it" if in_use else f"its file system has no locks ({error.strerror})"
        raise StorageError(path=data_dir, problem=problem) from None
    try:
        yield data_dir
    finally:
        os.close(lock)
