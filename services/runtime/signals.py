"""Wakes all who wait for a change."""

import asyncio


class ChangeSignal:
    """For use in one event loop; may be created outside of it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Returns at the next ``notify``."""
        await self._event.wait()
