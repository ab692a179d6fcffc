"""For what lasts by itself: a fault that goes on, a peer that is slow. Never to wait for what a test expects."""

import asyncio
import contextlib


async def pause(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
