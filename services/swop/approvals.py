"""Tasks that wait until the owner of the host approves or refuses them. Each is a file of the SWOP, named by the digest
of what would run, so a task that changes needs a new approval.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.errors import FileUnreadable, StorageError, UnknownApproval


@dataclass(frozen=True)
class Approvals:
    """``directory`` belongs to the SWOP alone."""

    directory: Path

    def ask(self, digest: bytes, description: dict[str, Any]) -> bool:
        """Puts a task up for approval. False if it has been put up before. Raises StorageError."""
        path = self._waiting(digest.hex())
        if path.exists():
            return False
        self.open()
        with self._writing():
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(description, indent=1, ensure_ascii=False) + "\n")
            temporary.replace(path)
        return True

    def open(self) -> None:
        """Makes the directory when the SWOP starts, so that a missing one means a wrong ``--data-dir``. Raises
        StorageError.
        """
        with self._writing():
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def given(self, digest: bytes) -> bool:
        return self._approved(digest.hex()).exists()

    def refusal(self, digest: bytes) -> str | None:
        """The owner's reason, which may be empty; None if the task is not refused. Raises FileUnreadable."""
        try:
            return self._refused(digest.hex()).read_text()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FileUnreadable(path=self.directory, problem=str(error)) from None

    def waiting(self) -> dict[str, dict[str, Any]]:
        """The tasks that have no answer yet, by hexadecimal digest. Raises FileUnreadable."""
        return {
            name: description
            for name, description in self._asked().items()
            if not self._approved(name).exists() and not self._refused(name).exists()
        }

    def approve(self, beginning: str) -> dict[str, Any]:
        """Approves a task, even one that was refused before, and returns its description. Raises UnknownApproval,
        FileUnreadable, StorageError.
        """
        name, description = self._named(beginning, self._approved)
        with self._writing():
            self._refused(name).unlink(missing_ok=True)
            self._approved(name).touch(mode=0o600)
        return description

    def refuse(self, beginning: str, reason: str) -> dict[str, Any]:
        """Refuses a task, even one that was approved before, and returns its description. What already runs goes on.
        Raises UnknownApproval, FileUnreadable, StorageError.
        """
        name, description = self._named(beginning, self._refused)
        with self._writing():
            self._approved(name).unlink(missing_ok=True)
            temporary = self._refused(name).with_suffix(".tmp")
            temporary.write_text(reason)
            temporary.replace(self._refused(name))
        return description

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(path=self.directory, problem=error.strerror) from None

    def _asked(self) -> dict[str, dict[str, Any]]:
        try:
            paths = sorted(path for path in self.directory.iterdir() if path.suffix == ".json")
            return {path.stem: json.loads(path.read_text()) for path in paths}
        except FileNotFoundError:
            problem = "it is not there, so no SWOP has worked with this --data-dir"
            raise FileUnreadable(path=self.directory, problem=problem) from None
        except (OSError, ValueError) as error:
            raise FileUnreadable(path=self.directory, problem=str(error)) from None

    def _named(self, beginning: str, answered: Callable[[str], Path]) -> tuple[str, dict[str, Any]]:
        """The one task whose digest has this beginning and that does not have this answer yet."""
        asked = self._asked().items()
        found = [it for it in asked if beginning and it[0].startswith(beginning) and not answered(it[0]).exists()]
        if len(found) != 1:
            problem = "no task waits under that hash" if not found else "several tasks begin so"
            raise UnknownApproval(hash=beginning or "''", problem=problem)
        return found[0]

    def _waiting(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _refused(self, name: str) -> Path:
        return self.directory / f"{name}.refused"

    def _approved(self, name: str) -> Path:
        return self.directory / f"{name}.approved"
