"""How long a node runs."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def until(stop: asyncio.Event, *works: Coroutine[Any, Any, None]) -> None:
    """Runs ``works`` until ``stop`` is set or one of them ends; if that one fails, raises its error."""
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(work) for work in (*works, stop.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
