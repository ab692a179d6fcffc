"""geth's output: kept in a file of limited size, with the last lines in memory."""

from collections import deque
from pathlib import Path

ROTATE_AT_BYTES = 16 * 2**20
TAIL_LINES = 12


class GethLog:
    """Appends lines; a full file is renamed to ``<name>.1``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)

    def write(self, line: bytes) -> None:
        self._lines.append(line.decode(errors="replace").strip())
        if self._file.tell() > ROTATE_AT_BYTES:
            self._file.close()
            self.path.replace(self.path.with_name(self.path.name + ".1"))
            self._file = self.path.open("ab", buffering=0)
        self._file.write(line)

    def tail(self) -> str:
        """The last lines, for an error message."""
        return " | ".join(self._lines) or "(no output)"

    def close(self) -> None:
        self._file.close()
