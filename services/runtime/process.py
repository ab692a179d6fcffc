"""Runs a node's coroutine as a process: signals stop it, and an error becomes one line and an exit code."""

import asyncio
import contextlib
import resource
import signal
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from services.errors import SwarmError
from services.runtime.output import print_error
from services.runtime.ready import ReadySocket

# For a node's work outside its event loop; Python's default would be 5 on a machine with one core.
THREADS = 32

# A node has several connections with each other node. Many systems start with 1,024 and allow more on request.
OPEN_FILES = 65_536

NodeMain = Callable[[asyncio.Event, ReadySocket], Awaitable[None]]


def run_node(main: NodeMain) -> int:
    """Runs ``main(stop, ready)`` until it returns; returns the exit code.

    ``stop`` is set by SIGTERM, SIGINT, or the end of the process that started this one; ``main`` then stops in order.
    An error that ends ``main`` is printed without a traceback, unless it is a bug.
    """
    try:
        asyncio.run(_supervise(main))
    except Exception as raised:
        error = _swarm_error_in(raised)
        if error is None:  # a bug: the one place where a traceback is right
            with contextlib.suppress(OSError):
                traceback.print_exception(raised)
            return SwarmError.exit_code
        print_error(error)
        return error.exit_code
    return 0


async def _supervise(main: NodeMain) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "node"))
    _raise_file_limit()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ready = ReadySocket()
    orphaned = asyncio.create_task(_stop_when_orphaned(ready, stop))
    try:
        await main(stop, ready)
    finally:
        await ready.health.end()
        orphaned.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await orphaned


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _stop_when_orphaned(ready: ReadySocket, stop: asyncio.Event) -> None:
    await ready.starter_gone()
    stop.set()


def _swarm_error_in(raised: BaseException) -> SwarmError | None:
    """The error itself, or the first one inside exception groups of task groups."""
    if isinstance(raised, BaseExceptionGroup):
        found = (_swarm_error_in(inner) for inner in raised.exceptions)
        return next((error for error in found if error is not None), None)
    return raised if isinstance(raised, SwarmError) else None
