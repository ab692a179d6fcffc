"""The clock that leases run by: it counts the seconds for which a server ran, and knows no wall clock.

Each server adds the time that its own monotonic clock measured to the value in the database, and takes the database's
where that is ahead. So a changed system clock neither frees nor extends a lease, several servers on one database
agree, and while no server runs, when nobody could renew, no lease grows older.
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]

# A server looks at least every few seconds. Where it did not, it was standing still, and its nodes could not renew.
MAX_STEP_S = 5.0


class LeaseClock:
    """One server's part in it. ``monotonic`` and ``wall`` give seconds."""

    def __init__(
        self, monotonic: Clock = time.monotonic, wall: Clock = time.time, max_step_s: float = MAX_STEP_S
    ) -> None:
        self._monotonic = monotonic
        self._max_step_s = max_step_s
        self._seen: tuple[float, float] | None = None
        self._wall_at_start = wall()
        self._started = monotonic()
        self.turned_back_s = 0.0  # by how much the wall clock was behind the database's at the start

    def advance(self, stored: float) -> float:
        """Now, in lease seconds, given what the database holds."""
        at = self._monotonic()
        now = stored
        if self._seen is not None:
            now = max(stored, self._seen[1] + min(at - self._seen[0], self._max_step_s))
        self._seen = (at, now)
        return now

    def wall(self, stored: float) -> float:
        """Seconds since 1970 for dates of licenses: a clock that is turned back does not make one valid again."""
        now = self._wall_at_start + (self._monotonic() - self._started)
        if now < stored:
            self.turned_back_s = max(self.turned_back_s, stored - now)
            self._wall_at_start += stored - now
            now = stored
        return now

    def trust_wall(self, wall: Clock = time.time) -> float:
        """The wall clock as it is now, whatever was seen before."""
        self._wall_at_start, self._started = wall(), self._monotonic()
        self.turned_back_s = 0.0
        return self._wall_at_start
