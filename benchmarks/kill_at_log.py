"""A node that kills itself at a given line of its own log: between two steps of a round, not after some time.

``python -m benchmarks.kill_at_log DIRECTORY NODE <command line of swarm>``. While DIRECTORY holds the file ``armed``
(JSON: fields that the line must have), the first node to write such a line renames it to ``struck``, writes the time of
the system's monotonic clock, its name and the round to ``killed``, and ends with SIGKILL.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from services.cli.main import main as swarm

ARMED = "armed"
STRUCK = "struck"
KILLED = "killed"


def arm(directory: Path, fields: Mapping[str, Any]) -> None:
    """The next line with these fields, of any node that looks into ``directory``, is its last."""
    for name in (STRUCK, KILLED):
        (directory / name).unlink(missing_ok=True)
    draft = directory / "draft"
    draft.write_text(json.dumps(fields))
    draft.rename(directory / ARMED)


class LastWords:
    """Where the node writes its log."""

    def __init__(self, node: str, directory: Path, out: TextIO) -> None:
        self._node = node
        self._directory = directory
        self._out = out

    def write(self, text: str) -> int:
        self._out.write(text)
        if text.startswith("{") and (self._directory / ARMED).exists():
            self._look(json.loads(text))
        return len(text)

    def flush(self) -> None:
        self._out.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._out.fileno()

    def _look(self, line: Mapping[str, Any]) -> None:
        with contextlib.suppress(FileNotFoundError):  # another node was first
            fields = json.loads((self._directory / ARMED).read_text())
            if any(line.get(name) != value for name, value in fields.items()):
                return
            (self._directory / ARMED).rename(self._directory / STRUCK)
            killed = {"node": self._node, "round": line.get("round", 0), "at": time.monotonic()}
            (self._directory / KILLED).write_text(json.dumps(killed))
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    directory, node, *arguments = sys.argv[1:]
    sys.stdout = LastWords(node, Path(directory), sys.stdout)
    return swarm(arguments)


if __name__ == "__main__":
    sys.exit(main())
