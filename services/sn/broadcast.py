"""Sends the newest state of a view to any number of watchers; outdated states are skipped."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from services.chain.receipts import Position
from services.runtime.signals import ChangeSignal

# In a round, each of many nodes checks in and reports, and nobody acts on a single one of these: sent one by one to
# all, they would cost the square of the number of nodes.
SOON_S = 0.2

# A message costs its receiver half a millisecond of processor time. A thousand watchers get one every four seconds.
SOON_S_A_WATCHER = 0.004

# A watcher that is further behind is sent the whole state.
CHANGES_KEPT = 8


class Watchable(Protocol):
    """What can be watched. ``version`` grows with every change; ``position`` is that of the newest event included."""

    @property
    def version(self) -> int: ...

    @property
    def position(self) -> Position: ...


@dataclass(frozen=True)
class _Change:
    """What turns the state of version ``since`` into that of ``version``."""

    since: int
    version: int
    message: bytes


class Broadcast:
    """Serialises each state once, however many watch. ``serialise`` returns the view as it is now.

    ``changed`` returns what has changed since its last call, as a serialised message; None if only whole states are
    sent.
    """

    def __init__(
        self, view: Watchable, serialise: Callable[[], bytes], changed: Callable[[], bytes] | None = None
    ) -> None:
        self._view = view
        self._serialise = serialise
        self._change_of = changed
        self._changed = ChangeSignal()
        self._version = -1  # of the newest state seen
        self._stale = True  # the view must be looked at again
        self._whole: bytes | None = None  # None: nobody has asked for it
        self._changes: deque[_Change] = deque(maxlen=CHANGES_KEPT)
        self._watchers = 0
        self._soon: asyncio.TimerHandle | None = None
        self._closed = False

    def wake_soon(self) -> None:
        """A change that nobody waits for: watchers are told in a moment, together with whatever changes until then."""
        if self._soon is None and not self._closed:
            delay = max(SOON_S, self._watchers * SOON_S_A_WATCHER)
            self._soon = asyncio.get_running_loop().call_later(delay, self.wake)

    def wake(self) -> None:
        """The view has changed. Each watcher is sent the newest state at its next turn."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._stale = True
        self._changed.notify()

    def close(self) -> None:
        """Ends every stream."""
        self._closed = True
        self.wake()

    async def states(self, seen: int, *, changes: bool = False) -> AsyncIterator[bytes]:
        """The state now unless its version is ``seen``, then the newest after each change, serialised.

        ``seen`` may be newer than the view if a restart lost progress: that is a change too. ``changes``: sends only
        what has changed since ``seen``, if that is known.
        """
        self._watchers += 1
        self._stale = True
        try:
            while not self._closed:
                self._look()
                if seen == self._version:
                    await self._changed.wait()
                    continue
                change = next((it for it in self._changes if it.since == seen), None) if changes else None
                if change is not None:
                    seen, message = change.version, change.message
                else:
                    message = self._newest()
                    seen = self._version
                yield message
        finally:
            self._watchers -= 1

    async def until(self, block: int) -> None:
        """Returns once the events of this block are in the view."""
        while self._view.position.block < block and not self._closed:
            await self._changed.wait()

    def _look(self) -> None:
        """Takes note of the current view, if it may have changed."""
        stale, self._stale = self._stale, False
        if not stale or self._view.version == self._version:
            return
        before, self._version, self._whole = self._version, self._view.version, None
        if self._change_of is not None:
            self._changes.append(_Change(before, self._version, self._change_of()))

    def _newest(self) -> bytes:
        """The whole state seen last; if nobody has asked for it yet, that of the view as it is now."""
        if self._whole is None:
            self._stale = True
            self._look()
            self._whole = self._serialise()
        return self._whole
