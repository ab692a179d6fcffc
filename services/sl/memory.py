"""What an SL keeps in its data directory between starts: the known SNs, and the progress of its ML."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from services.runtime import logs

FILE = "sl-state.json"
VERSION = 1

_log = logs.get("sl")


@dataclass(frozen=True)
class ResumePoint:
    """The ML program's progress when it got the merged model of ``round``. ``location``: address of the contract."""

    location: str
    first_round: int
    round: int
    digest: str
    epochs_done: int


@dataclass(frozen=True)
class RememberedState:
    """``sns``: API addresses, ``host:port``."""

    sns: tuple[str, ...] = ()
    resume_point: ResumePoint | None = None


class Memory:
    """A file that is replaced atomically, so that a crash leaves the old one or the new one.

    If it cannot be read or written, only convenience is lost: this is logged, and the node continues.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE
        self._lock = Lock()
        self._content = _read(self._path)

    @property
    def sns(self) -> tuple[str, ...]:
        return self._content.sns

    def resume_point(self, location: str, first_round: int) -> ResumePoint | None:
        """The resume point of this training; None for another one, or one that was reset since."""
        known = self._content.resume_point
        return known if known and (known.location, known.first_round) == (location, first_round) else None

    def keep_sns(self, addresses: tuple[str, ...]) -> None:
        """Blocks for as long as the disk takes."""
        if addresses != self._content.sns:
            self._replace(lambda content: replace(content, sns=addresses))

    def keep_resume_point(self, resume_point: ResumePoint) -> None:
        """Blocks for as long as the disk takes."""
        self._replace(lambda content: replace(content, resume_point=resume_point))

    def _replace(self, change: Callable[[RememberedState], RememberedState]) -> None:
        with self._lock:
            self._content = change(self._content)
            draft = self._path.with_suffix(".draft")
            try:
                with draft.open("w") as file:
                    json.dump({"version": VERSION, **asdict(self._content)}, file)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(self._path)
            except OSError as error:
                _log.warning("progress not saved", path=str(self._path), why=error.strerror)


def _read(path: Path) -> RememberedState:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        told = found["resume_point"]
        resume_point = None if told is None else ResumePoint(**told)
        return RememberedState(tuple(str(address) for address in found["sns"]), resume_point)
    except FileNotFoundError:
        return RememberedState()
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("the saved progress is not readable", path=str(path), why=str(error))
        return RememberedState()
