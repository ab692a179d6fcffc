"""A program at a terminal of its own, and the person who types there."""

import asyncio
import os
import pty
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path

from pexpect import EOF, TIMEOUT
from pexpect.fdpexpect import fdspawn

WITHIN_S = 60
ENDS_WITHIN_S = 30
TAB, ENTER, UP, CTRL_C, CTRL_U = "\t", "\r", "\x1b[A", "\x03", "\x15"


class TerminalSession:
    """Blocks: a test runs it in a thread. ``setsid --ctty``: Ctrl-C reaches the program as it does a person's."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str], cwd: Path) -> None:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (50, 200))
        # Nobody answers where the cursor is.
        environment = environment | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *argv], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=cwd
        )
        os.close(theirs)
        self._screen = fdspawn(ours, encoding="utf-8", timeout=WITHIN_S)

    def type(self, keys: str) -> None:
        self._screen.send(keys)

    def shows(self, *texts: str) -> None:
        """Each comes after the one before."""
        for text in texts:
            try:
                self._screen.expect_exact(text)
            except (EOF, TIMEOUT) as error:
                raise AssertionError(f"{text!r} was not shown, but {self._screen.before!r}") from error

    def enter(self, line: str, *shown: str) -> None:
        self.type(line + ENTER)
        self.shows(*shown)

    def completes(self, beginning: str, rest: str) -> None:
        """The tabulator puts the rest of a word that was begun into the line."""
        self.type(beginning + TAB)
        self.shows(rest)

    def ends(self) -> int:
        """The program's exit code, once it has ended by itself."""
        self._screen.expect(EOF)
        return self._process.wait(ENDS_WITHIN_S)

    async def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        await asyncio.to_thread(self._process.wait, ENDS_WITHIN_S)
        self._screen.close()
