"""Work with sockets that holds a thread only while it gets on: what has to wait, waits in the event loop.

Such work is a generator. It runs in a thread of a pool up to where nothing comes for ``HOLD_S``, yields what it waits
for, and goes on in any thread of the pool once that is there. So a few threads serve many connections, and neither
an idle one nor one that waits for what is not made yet keeps a thread from others.
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

# A thread waits so long itself: what moves pays nothing for this, and nobody has a thread for long without use.
HOLD_S = 0.05

Got = TypeVar("Got")


@dataclass(frozen=True)
class News:
    """``there()`` becomes true with one of the next changes, asked in the event loop."""

    changed: ChangeSignal
    there: Callable[[], bool]


@dataclass(frozen=True)
class Wait:
    """Until bytes can be read (or written), or for ``news``; ``seconds`` at most."""

    socket: socket.socket
    seconds: float
    to_write: bool = False
    news: News | None = None


# Is sent whether what it waited for came in time.
SocketWork = Generator[Wait, bool | None, Got]


@dataclass(frozen=True)
class _Done(Generic[Got]):
    value: Got


async def carry_out(work: SocketWork[Got], pool: Executor, stop: Callable[[], object]) -> Got:
    """What ``work`` returns. Where this is cancelled, ``stop`` must end what a thread is just at; it returns then."""
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
    """Raises OSError, TimeoutError."""
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
    """Whether what it is for came in time."""
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
        woken.set()  # also where it cannot be asked: whoever waits asks once more, and meets the error
