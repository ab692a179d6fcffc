"""Tasks that wait until the owner of the host has confirmed or refused them: files of the SWOP, named by the digest
of what would run: where that changes, it is asked for again.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.errors import FileUnreadable, UnknownApproval


@dataclass(frozen=True)
class Approvals:
    """``directory`` belongs to the SWOP alone."""

    directory: Path

    def ask(self, digest: bytes, description: dict[str, Any]) -> bool:
        """Puts a task up for approval; False where it waits already."""
        path = self._waiting(digest.hex())
        if path.exists():
            return False
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(description, indent=1, ensure_ascii=False) + "\n")
        temporary.replace(path)
        return True

    def given(self, digest: bytes) -> bool:
        return self._approved(digest.hex()).exists()

    def refusal(self, digest: bytes) -> str | None:
        """The owner's reason, which may be empty; None where it is not refused. Raises FileUnreadable."""
        try:
            return self._refused(digest.hex()).read_text()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FileUnreadable(path=self.directory, problem=str(error)) from None

    def waiting(self) -> dict[str, dict[str, Any]]:
        """What would run and has no answer, by digest in hexadecimal. Raises FileUnreadable."""
        return {
            name: description
            for name, description in self._asked().items()
            if not self._approved(name).exists() and not self._refused(name).exists()
        }

    def approve(self, beginning: str) -> dict[str, Any]:
        """Also what was refused before. Gives what was approved. Raises UnknownApproval, FileUnreadable."""
        name, description = self._named(beginning, self._approved)
        self._refused(name).unlink(missing_ok=True)
        self._approved(name).touch(mode=0o600)
        return description

    def refuse(self, beginning: str, reason: str) -> dict[str, Any]:
        """Also what was approved before: what runs already goes on. Raises UnknownApproval, FileUnreadable."""
        name, description = self._named(beginning, self._refused)
        self._approved(name).unlink(missing_ok=True)
        temporary = self._refused(name).with_suffix(".tmp")
        temporary.write_text(reason)
        temporary.replace(self._refused(name))
        return description

    def _asked(self) -> dict[str, dict[str, Any]]:
        try:
            return {path.stem: json.loads(path.read_text()) for path in sorted(self.directory.glob("*.json"))}
        except (OSError, ValueError) as error:
            raise FileUnreadable(path=self.directory, problem=str(error)) from None

    def _named(self, beginning: str, answered: Callable[[str], Path]) -> tuple[str, dict[str, Any]]:
        """The one task whose digest begins so and that has not got this answer."""
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
