"""Ctrl-C while a command is still being loaded."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended


@contextmanager
def loading() -> Iterator[None]:
    """While code is loaded within it, Ctrl-C ends the process at once: nothing has begun, and a traceback says nothing.

    No effect if the process was started with Ctrl-C ignored. For the main thread only.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
