"""Stops or kills a node exactly where its log says that it is: between two steps of the protocol, not after some time.

``python -m benchmarks.log_traps DIRECTORY NODE <command line of swarm>`` runs a node whose log springs the traps that
are armed in DIRECTORY.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

ARMED = ".armed"
SPRUNG = ".sprung"
KILLED = ".killed"


@dataclass(frozen=True)
class Trap:
    """Springs at the first log line of any node with these fields, from a round on; once, for one node.

    ``nodes``: who may be caught; empty for any. ``kills``: with SIGKILL, and it says whom; else it
    stops.
    """

    name: str
    fields: Mapping[str, Any]
    from_round: int = 0
    nodes: tuple[str, ...] = ()
    contract: str = ""
    kills: bool = False

    def arm(self, directory: Path) -> None:
        draft = directory / f"{self.name}.draft"
        draft.write_text(json.dumps(asdict(self)))
        draft.rename(directory / (self.name + ARMED))

    def disarm(self, directory: Path) -> None:
        (directory / (self.name + ARMED)).unlink(missing_ok=True)

    def killed(self, directory: Path) -> dict[str, Any]:
        """The last one: ``node``, ``round``, and ``at`` by the system's monotonic clock."""
        found: dict[str, Any] = json.loads((directory / (self.name + KILLED)).read_text())
        return found


@dataclass(eq=False)
class TrapStream:
    """Where a node writes its log. A line that springs a trap is written, then the whole process stops or dies."""

    node: str
    directory: Path
    out: TextIO
    seen: dict[str, Any] = field(default_factory=dict)

    def write(self, text: str) -> int:
        self.out.write(text)
        if text.startswith("{") and any(self.directory.glob("*" + ARMED)):
            self.look(json.loads(text))
        elif text.startswith("{"):
            self.remember(json.loads(text))
        return len(text)

    def flush(self) -> None:
        self.out.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self.out.fileno()

    def remember(self, line: Mapping[str, Any]) -> None:
        """Steps do not name their round; the lines around them do."""
        self.seen.update({key: line[key] for key in ("round", "term") if isinstance(line.get(key), int)})

    def look(self, line: Mapping[str, Any]) -> None:
        self.remember(line)
        known = {**self.seen, **line}
        for path in sorted(self.directory.glob("*" + ARMED)):
            with contextlib.suppress(FileNotFoundError):
                trap = Trap(**json.loads(path.read_text()))
                if self._fits(trap, known):
                    path.rename(path.with_suffix(SPRUNG))  # of several nodes one succeeds
                    self.out.write("\n" + json.dumps({"event": "TRAP", "node": self.node, "trap": trap.name}))
                    self.out.flush()
                    if trap.kills:
                        killed = {"node": self.node, "round": known.get("round", 0), "at": time.monotonic()}
                        path.with_suffix(KILLED).write_text(json.dumps(killed))
                    os.kill(os.getpid(), signal.SIGKILL if trap.kills else signal.SIGSTOP)

    def _fits(self, trap: Trap, known: Mapping[str, Any]) -> bool:
        return (
            (not trap.nodes or self.node in trap.nodes)
            and known.get("round", 0) >= trap.from_round
            and (not trap.contract or known.get("contract") == trap.contract)
            and all(known.get(key) == value for key, value in trap.fields.items())
        )


def main(arguments: list[str]) -> int:
    """Gives the exit code of the node."""
    from services.cli.main import main as swarm  # noqa: PLC0415  # a fork server has loaded what it needs of it

    directory, node, *command = arguments
    sys.stdout = TrapStream(node, Path(directory), sys.stdout)  # type: ignore[assignment]
    return swarm(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
