"""Descriptors of processes, which cannot come to mean another process."""

import os

from services.errors import ProcessesNotWatched


def open_pid(pid: int) -> int:
    """Raises ProcessLookupError where it is gone, ProcessesNotWatched where a sandbox forbids it."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError as error:
        raise ProcessesNotWatched(call="pidfd_open", problem=error.strerror or str(error)) from None
