"""Runs lines from a script, a pipe or a person in one session, one after the other."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from services.runtime.interrupts import INTERRUPTED
from services.swci.execution import CommandResult, execute
from services.swci.session import CommandSession
from services.swci.terminal import Terminal


@dataclass(frozen=True)
class Over:
    """The session has ended; ``exit_code`` is 0 unless a command failed under EXIT ON FAILURE."""

    exit_code: int = 0


class Console:
    """``interrupt`` ends only the running command."""

    def __init__(self, session: CommandSession, terminal: Terminal) -> None:
        self.session = session
        self.terminal = terminal
        self._running: asyncio.Task[CommandResult | None] | None = None
        self.interrupted = False

    def interrupt(self) -> None:
        """For Ctrl-C."""
        self.interrupted = True
        if self._running is not None:
            self._running.cancel()

    async def do(self, line: str) -> Over | None:
        """Runs one line; None if the session goes on."""
        self.interrupted = False
        self._running = asyncio.create_task(execute(self.session, line, self.terminal.say))
        try:
            answer = await self._running
        except asyncio.CancelledError:
            if not self.interrupted:
                raise  # not by Ctrl-C: the whole session is ending
            self.terminal.remark("Interrupted.")
            return None
        finally:
            self._running = None
        if answer is None:
            return None
        self.terminal.show(answer)
        if answer.error is not None and self.session.exit_on_failure:
            return Over(answer.error.exit_code)
        return Over() if self.session.ended else None

    async def run_script(self, lines: Iterable[str]) -> Over | None:
        """Runs all lines, shown as if they were typed. Ctrl-C ends the script too."""
        for line in lines:
            if line.strip():
                self.terminal.echo(self.session.executed, line)
            over = await self.do(line)
            if over is not None:
                return over
            if self.interrupted:
                return Over(INTERRUPTED)
        return None

    async def run_lines(self, lines: AsyncIterator[str]) -> Over:
        """Runs the lines from a pipe until it ends."""
        async for line in lines:
            over = await self.do(line)
            if over is not None:
                return over
            if self.interrupted:
                return Over(INTERRUPTED)
        return Over()
