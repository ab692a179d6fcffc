"""Sends a training's newest state to any number of watchers; states that were overtaken are skipped."""

import asyncio
from collections.abc import AsyncIterator, Callable

from services.sn.statuses import AddressOf, status
from services.sn.training import TrainingView


class Broadcast:
    """Serialises each state once, however many watch. ``clock``: seconds, the one of the view's progress."""

    def __init__(self, view: TrainingView, clock: Callable[[], float], address_of: AddressOf) -> None:
        self._view = view
        self._clock = clock
        self._address_of = address_of
        self._changed = asyncio.Event()
        self._message = b""
        self._message_version = -1
        self._closed = False

    def wake(self) -> None:
        """The view has changed. Whoever watches is sent the newest state at its next turn."""
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Ends every stream."""
        self._closed = True
        self.wake()

    async def states(self, seen: int) -> AsyncIterator[bytes]:
        """The state now unless its version is ``seen``, then the newest after each change, serialised.

        ``seen`` may be newer than the view, after a restart forgot progress: that is a change too.
        """
        while not self._closed:
            if self._view.version != seen:
                seen = self._view.version
                yield self._serialised()
            else:
                await self._changed.wait()

    async def until(self, block: int) -> None:
        """Returns once the events of this block are in the view."""
        while self._view.position.block < block and not self._closed:
            await self._changed.wait()

    def _serialised(self) -> bytes:
        if self._message_version != self._view.version:
            self._message = status(self._view, self._clock(), self._address_of).SerializeToString()
            self._message_version = self._view.version
        return self._message
