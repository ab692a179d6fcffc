"""Wakes all who wait for news."""

import asyncio


class Bell:
    """Rung and heard in one event loop. May be made outside of it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Returns at the next ring."""
        await self._event.wait()
