"""How many threads do a merge any good."""

import os


def usable_processors() -> int:
    """How many this process may use; where a sandbox does not let it ask, how many the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except PermissionError:
        return os.cpu_count() or 1
