"""The shell on a terminal: a prompt, history, completion."""

import contextlib
import os
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from services.swci.catalog import GRAMMAR
from services.swci.completion import CommandCompleter
from services.swci.console import Console, Over


async def run_shell(console: Console, history: Path) -> Over:
    """Runs until EXIT, Ctrl-D, or a failure under EXIT ON FAILURE."""
    prompts: PromptSession[str] = PromptSession(
        history=open_history(history),
        completer=CommandCompleter(GRAMMAR, console.session),
        complete_while_typing=False,
    )
    while True:
        try:
            line = await prompts.prompt_async(console.terminal.prompt(console.session.executed), handle_sigint=False)
        except KeyboardInterrupt:
            continue  # Ctrl-C drops the line
        except EOFError:
            return Over()
        over = await console.do(line)
        if over is not None:
            return over


def open_history(path: Path) -> History:
    """The history, in a file that only its user may read, or in memory if that cannot be written."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        return FileHistory(str(path))
    return InMemoryHistory()
