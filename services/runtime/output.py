"""What a process prints. If that fails, for example on a full disk, the process continues without it."""

import contextlib
import os
import sys
from typing import TextIO


class Unfailing:
    """A text stream for a log: what cannot be written is dropped without an error. ``stream``: None for stdout."""

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
    """Prints an error on stderr."""
    with contextlib.suppress(OSError):
        print(f"ERROR: {error}", file=sys.stderr, flush=True)


def finish() -> None:
    """Flushes before the process ends. If that failed at exit, Python would replace the exit code with its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if not stream.closed:
                stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
