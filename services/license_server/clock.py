"""The clock of leases: it counts the seconds during which a server ran, and is independent of wall clocks.

Each server adds the time measured by its own monotonic clock to the value in the database, and takes the database's
value if that is ahead. So a changed system clock neither frees nor extends a lease, and several servers on one database
agree. While no server runs, nobody can renew, and no lease ages.
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]

# A server reads the clock every few seconds at least. If not, it was suspended, and nodes could not renew.
MAX_STEP_S = 5.0


class LeaseClock:
    """One server's view of the clock. ``monotonic`` and ``wall`` return seconds."""

    def __init__(
        self, monotonic: Clock = time.monotonic, wall: Clock = time.time, max_step_s: float = MAX_STEP_S
    ) -> None:
        self._monotonic = monotonic
        self._max_step_s = max_step_s
        self._seen: tuple[float, float] | None = None
        self._wall_at_start = wall()
        self._started = monotonic()
        self.turned_back_s = 0.0  # the most that the wall clock was behind the database's

    def advance(self, stored: float) -> float:
        """The current lease time in seconds, given the value in the database."""
        at = self._monotonic()
        now = stored
        if self._seen is not None:
            now = max(stored, self._seen[1] + min(at - self._seen[0], self._max_step_s))
        self._seen = (at, now)
        return now

    def wall(self, stored: float) -> float:
        """Seconds since 1970, for dates of licenses. It never goes back, so turning a clock back makes no license valid
        again.
        """
        now = self._wall_at_start + (self._monotonic() - self._started)
        if now < stored:
            self.turned_back_s = max(self.turned_back_s, stored - now)
            self._wall_at_start += stored - now
            now = stored
        return now

    def trust_wall(self, wall: Clock = time.time) -> float:
        """Accepts the wall clock as it is now, whatever was seen before."""
        self._wall_at_start, self._started = wall(), self._monotonic()
        self.turned_back_s = 0.0
        return self._wall_at_start
