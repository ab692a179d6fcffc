"""Wakes all who wait for news."""

import asyncio
import threading


class Bell:
    """Rung in one event loop; heard there and in threads. May be made outside of the loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._condition = threading.Condition()
        self.rung = 0  # how often so far

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()
        with self._condition:
            self.rung += 1
            self._condition.notify_all()

    async def wait(self) -> None:
        """Returns at the next ring."""
        await self._event.wait()

    def wait_beyond(self, rung: int, within_s: float) -> bool:
        """In a thread: returns once it has been rung more often than that; False where it was not in time."""
        with self._condition:
            return self._condition.wait_for(lambda: self.rung > rung, within_s)
