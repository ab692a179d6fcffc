"""Descriptors of processes, which, unlike process ids, never come to refer to another process."""

import os

from services.errors import ProcessesNotWatched


def open_pid(pid: int) -> int:
    """Raises ProcessLookupError if the process is gone, ProcessesNotWatched if a sandbox forbids the call."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError as error:
        raise ProcessesNotWatched(call="pidfd_open", problem=error.strerror or str(error)) from None
