"""Tasks that wait until the owner of the host has confirmed them: files of the SWOP, named by the digest
of what would run: where that changes, it is asked for again.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.errors import FileUnreadable, TaskRefused


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

    def waiting(self) -> dict[str, dict[str, Any]]:
        """What would run, by digest in hexadecimal. Raises FileUnreadable."""
        try:
            return {
                path.stem: json.loads(path.read_text())
                for path in sorted(self.directory.glob("*.json"))
                if not self._approved(path.stem).exists()
            }
        except (OSError, ValueError) as error:
            raise FileUnreadable(path=self.directory, problem=str(error)) from None

    def approve(self, beginning: str) -> dict[str, Any]:
        """Gives what was approved. Raises TaskRefused where nothing of that hash waits."""
        found = [(known, description) for known, description in self.waiting().items() if known.startswith(beginning)]
        if len(found) != 1:
            problem = "no task waits under that hash" if not found else "several tasks begin so; give more of the hash"
            raise TaskRefused(task=f"The approval of {beginning or 'nothing'}", problem=problem)
        self._approved(found[0][0]).touch(mode=0o600)
        return found[0][1]

    def _waiting(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _approved(self, name: str) -> Path:
        return self.directory / f"{name}.approved"
