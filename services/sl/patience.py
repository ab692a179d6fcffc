"""How long to wait for something that does not come."""

from collections.abc import Callable
from time import monotonic


class Patience:
    """Runs out after so many consecutive seconds in which it is ``needed``; otherwise the time begins anew.

    To be asked repeatedly while the wait lasts.
    """

    def __init__(self, seconds: float, needed: Callable[[], bool] = lambda: True) -> None:
        self._seconds = seconds
        self._needed = needed
        self._since = monotonic()

    @property
    def left_s(self) -> float:
        """Seconds left; 0 at the end."""
        if not self._needed():
            self._since = monotonic()
        return max(0.0, self._since + self._seconds - monotonic())
