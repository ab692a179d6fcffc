"""Work with sockets that holds a thread only while it makes progress: waits happen in the event loop.

Such work is a generator. It runs in a thread of a pool until nothing comes for ``HOLD_S``, yields what it waits for,
and continues in any thread of the pool once that is there. So a few threads serve many connections: no thread is held
by an idle connection, or by one that waits for data that is not made yet.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

from services.runtime.signals import ChangeSignal

# A thread itself waits for this long: moving transfers lose nothing, and no thread is held idle for long.
HOLD_S = 0.05

Got = TypeVar("Got")


@dataclass(frozen=True)
class News:
    """``there()`` becomes true with one of the next changes; it is called in the event loop."""

    changed: ChangeSignal
    there: Callable[[], bool]


@dataclass(frozen=True)
class Wait:
    """A wait until bytes can be read (or written), or for ``news``; at most ``seconds``."""

    socket: socket.socket
    seconds: float
    to_write: bool = False
    news: News | None = None


# The generator is sent whether what it waited for came in time.
SocketWork = Generator[Wait, bool | None, Got]


@dataclass(frozen=True)
class _Done(Generic[Got]):
    value: Got


async def carry_out(work: SocketWork[Got], pool: Executor, stop: Callable[[], object]) -> Got:
    """The result of ``work``. If this is cancelled, ``stop`` must end the thread's current step; only then does it
    return.
    """
    in_time: bool | None = None  # at the beginning
    while True:
        step = pool.submit(_go_on, work, in_time)
        ended = asyncio.wrap_future(step)
        try:
            reached = await asyncio.shield(ended)
            if isinstance(reached, _Done):
                value: Got = reached.value
                return value
            in_time = await _over(reached)
        except asyncio.CancelledError:
            stop()
            if not step.cancel():
                await asyncio.gather(ended, return_exceptions=True)
            work.close()
            raise


def handshake(secured: ssl.SSLSocket, seconds: float) -> SocketWork[None]:
    """Does the TLS handshake. Raises OSError, TimeoutError."""
    give_up = monotonic() + seconds
    secured.settimeout(min(HOLD_S, seconds))
    while True:
        try:
            secured.do_handshake()
        except TimeoutError:
            if not (yield Wait(secured, give_up - monotonic())):
                raise TimeoutError("it does not end the handshake") from None
        else:
            return


def _go_on(work: SocketWork[Got], in_time: bool | None) -> Wait | _Done[Got]:
    try:
        return work.send(in_time)
    except StopIteration as end:
        return _Done(end.value)


async def _over(wait: Wait) -> bool:
    """Whether what it waits for came in time."""
    loop = asyncio.get_running_loop()
    add, remove = (loop.add_writer, loop.remove_writer) if wait.to_write else (loop.add_reader, loop.remove_reader)
    woken = asyncio.Event()
    file = wait.socket.fileno()
    add(file, woken.set)
    hearing = asyncio.create_task(_hear(wait.news, woken)) if wait.news is not None else None
    try:
        async with asyncio.timeout(wait.seconds):
            await woken.wait()
    except TimeoutError:
        return False
    else:
        return True
    finally:
        remove(file)
        if hearing is not None:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)


async def _hear(news: News, woken: asyncio.Event) -> None:
    try:
        while not news.there():
            await news.changed.wait()
    finally:
        woken.set()  # also if ``there`` raises: the waiter calls it again and gets the error
