"""How errors are shown: those of others shortened, our own without a traceback."""

import re
import sys
from types import TracebackType
from typing import Final

from swarm_callback.errors import SwarmCallbackError

_COLORS: Final = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_ERROR: Final = 240  # characters of somebody else's message


def said(error: Exception) -> str:
    """The class of an error and the beginning of its message, on one line."""
    words = " ".join(_COLORS.sub("", str(error)).split())
    text = words if len(words) <= _LONGEST_ERROR else f"{words[:_LONGEST_ERROR]} ..."
    return f"{type(error).__name__}: {text.rstrip('.')}" if words else type(error).__name__


def show_own_errors_as_a_sentence() -> None:
    """Makes Python show our uncaught errors without a traceback; every other error is shown as before."""
    if getattr(sys.excepthook, "shows_swarm_errors", False):
        return
    before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, SwarmCallbackError):
            sys.stdout.flush()
            sys.stderr.write(f"ERROR: {error}\n")
        else:
            before(kind, error, trace)

    show.shows_swarm_errors = True  # type: ignore[attr-defined]
    sys.excepthook = show
