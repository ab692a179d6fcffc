"""The sessions of this process: one at a time for each pair of pipes, and a message to the SL if the process ends
early.
"""

import atexit
import os
import sys
from pathlib import Path
from typing import Protocol

from swarm_callback.errors import AlreadyTraining, EndedEarly, SwarmCallbackError


class Held(Protocol):
    """An open session. ``still_to_come``: why it is too short if it ends now."""

    still_to_come: str

    def abort(self, error: SwarmCallbackError) -> None: ...


_open: dict[Path, Held | None] = {}  # None while it is being opened
_ended: set[Path] = set()


def claim(request: Path) -> None:
    """Raises AlreadyTraining if this process has a session on these pipes that has not ended."""
    if request in _open:
        raise AlreadyTraining
    _open[request] = None


def hold(request: Path, session: Held) -> None:
    """Records the session that was opened on the claimed pipes."""
    _open[request] = session


def release(request: Path, *, ended_well: bool = False) -> None:
    """The session is over."""
    _open.pop(request, None)
    if ended_well:
        _ended.add(request)


def has_trained(request: Path) -> bool:
    """Whether a training over these pipes has ended well in this process; the SL ends with it."""
    return request in _ended


def _end_all() -> None:
    """At exit, tells the SL of each open session why it ends."""
    error = getattr(sys, "last_value", None)
    for session in filter(None, [*_open.values()]):
        reason = f"with {type(error).__name__}" if error is not None else f"and {session.still_to_come}"
        ended = EndedEarly(reason=reason)
        session.abort(ended)
        if error is None:  # nothing else in this program's output says so
            sys.stderr.write(f"ERROR: {ended}\n")


atexit.register(_end_all)
os.register_at_fork(after_in_child=_open.clear)  # a forked child has none of its parent's sessions
