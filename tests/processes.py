"""What becomes of processes that a test has not started itself."""

import asyncio
import os

WITHIN_S = 60


async def gone(pid: int) -> None:
    """Returns once this process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(descriptor, lambda: ended.done() or ended.set_result(None))
    try:
        await asyncio.wait_for(ended, WITHIN_S)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
