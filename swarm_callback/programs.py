"""What this process has to do with its pipes: one session at a time, and a word to the SL when the process ends."""

import atexit
import os
import sys
from pathlib import Path
from typing import Protocol

from swarm_callback.errors import AlreadyTraining, EndedEarly, SwarmCallbackError


class Held(Protocol):
    """A session that is open. ``still_to_come``: why it has ended too early if it ends now."""

    still_to_come: str

    def abort(self, error: SwarmCallbackError) -> None: ...


_open: dict[Path, Held | None] = {}  # None while it is being opened
_ended: set[Path] = set()


def claim(request: Path) -> None:
    """Raises AlreadyTraining where this process has a session on these pipes that has not ended."""
    if request in _open:
        raise AlreadyTraining
    _open[request] = None


def hold(request: Path, session: Held) -> None:
    """Whoever claimed them has opened this."""
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
    """Somebody has to say why, and nobody else is left to do so."""
    error = getattr(sys, "last_value", None)
    for session in filter(None, [*_open.values()]):
        reason = f"with {type(error).__name__}" if error is not None else f"and {session.still_to_come}"
        ended = EndedEarly(reason=reason)
        session.abort(ended)
        if error is None:  # nothing else in this program's output says so
            sys.stderr.write(f"ERROR: {ended}\n")


atexit.register(_end_all)
os.register_at_fork(after_in_child=_open.clear)  # a forked child has none of its parent's sessions
