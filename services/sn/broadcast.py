"""Sends the newest state of a view to any number of watchers; states that were overtaken are skipped."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from services.chain.receipts import Position
from services.runtime.signals import ChangeSignal

# A round of many nodes is a check-in and a report of each, and nobody acts on a single one: told one by one to all,
# they would cost the square of their number.
SOON_S = 0.2


class Watchable(Protocol):
    """What can be watched: ``version`` grows with every change, ``position`` is that of the newest event in it."""

    @property
    def version(self) -> int: ...

    @property
    def position(self) -> Position: ...


class Broadcast:
    """Serialises each state once, however many watch: ``serialise`` gives the view as it is now."""

    def __init__(self, view: Watchable, serialise: Callable[[], bytes]) -> None:
        self._view = view
        self._serialise = serialise
        self._changed = ChangeSignal()
        self._message: bytes | None = None  # None: the view has moved since the last one
        self._message_version = -1
        self._soon: asyncio.TimerHandle | None = None
        self._closed = False

    def wake_soon(self) -> None:
        """The view has changed in what nobody waits for: watchers are told in a moment, of all there is then."""
        if self._soon is None and not self._closed:
            self._soon = asyncio.get_running_loop().call_later(SOON_S, self.wake)

    def wake(self) -> None:
        """The view has changed. Whoever watches is sent the newest state at its next turn."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._message = None
        self._changed.notify()

    def close(self) -> None:
        """Ends every stream."""
        self._closed = True
        self.wake()

    async def states(self, seen: int) -> AsyncIterator[bytes]:
        """The state now unless its version is ``seen``, then the newest after each change, serialised.

        ``seen`` may be newer than the view, after a restart forgot progress: that is a change too.
        """
        if self._view.version != self._message_version:
            self._message = None
        while not self._closed:
            message = self._newest()
            if self._message_version != seen:
                seen = self._message_version
                yield message
            else:
                await self._changed.wait()

    async def until(self, block: int) -> None:
        """Returns once the events of this block are in the view."""
        while self._view.position.block < block and not self._closed:
            await self._changed.wait()

    def _newest(self) -> bytes:
        if self._message is None:
            self._message = self._serialise()
            self._message_version = self._view.version
        return self._message
