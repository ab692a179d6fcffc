"""The output of a session to a terminal or pipe: lines for people, or one JSON object per command."""

import sys
from typing import TextIO

from services.swci.execution import CommandResult
from services.swci.wording import clean

INDENT = "    "


class Terminal:
    """``as_json``: results are JSON, one object per line; messages while a command runs then go to stderr."""

    def __init__(self, *, as_json: bool = False, out: TextIO | None = None) -> None:
        self._as_json = as_json
        self._out = out or sys.stdout

    def prompt(self, executed: int) -> str:
        return f"SWCI:{executed} > "

    def echo(self, executed: int, line: str) -> None:
        """Shows a command that comes from a script, as nobody typed it."""
        if not self._as_json:
            self._print(self.prompt(executed) + clean(line.rstrip()))

    def say(self, line: str) -> None:
        """Shows a message while a command runs."""
        if self._as_json:
            _write(sys.stderr, clean(line))
        else:
            self._print(INDENT + clean(line))

    def show(self, answer: CommandResult) -> None:
        if self._as_json or answer.wants_json:
            self._print(answer.as_json())
            return
        for line in answer.lines:
            self._print((INDENT + line).rstrip())

    def remark(self, text: str) -> None:
        """Shows a message about the session itself."""
        if not self._as_json:
            self._print(INDENT + text)

    def _print(self, line: str) -> None:
        _write(self._out, line)


def _write(out: TextIO, line: str) -> None:
    out.write(line + "\n")
    out.flush()
