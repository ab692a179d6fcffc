"""How many threads are of use to a merge."""

import os


def usable_processors() -> int:
    """How many processors this process may use; those of the machine if a sandbox forbids asking."""
    try:
        return len(os.sched_getaffinity(0))
    except PermissionError:
        return os.cpu_count() or 1
