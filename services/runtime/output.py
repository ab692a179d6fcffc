"""What a process prints. Where it cannot be printed, as on a full disk, the process goes on without it."""

import contextlib
import os
import sys
from typing import TextIO


class Unfailing:
    """A text stream for a log: what cannot be written is lost, and fails nobody. ``stream``: None for stdout."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            (self._stream or sys.stdout).write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            (self._stream or sys.stdout).flush()


def print_error(error: Exception) -> None:
    """One line on stderr."""
    with contextlib.suppress(OSError):
        print(f"ERROR: {error}", file=sys.stderr, flush=True)


def finish() -> None:
    """Before the process ends. Python would give an exit code of its own where the last words cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if not stream.closed:
                stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
