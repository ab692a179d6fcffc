"""How long something is waited for that does not come."""

from collections.abc import Callable
from time import monotonic


class Patience:
    """So many seconds, of those in which it is ``needed``: whoever can go on without it gives up nothing.

    To be asked again and again while the wait lasts.
    """

    def __init__(self, seconds: float, needed: Callable[[], bool] = lambda: True) -> None:
        self._seconds = seconds
        self._needed = needed
        self._since = monotonic()

    @property
    def left_s(self) -> float:
        """Seconds, 0 where it is at its end."""
        if not self._needed():
            self._since = monotonic()
        return max(0.0, self._since + self._seconds - monotonic())
