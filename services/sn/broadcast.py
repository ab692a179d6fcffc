"""Sends the newest state of a view to any number of watchers; states that were overtaken are skipped."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from services.chain.receipts import Position
from services.runtime.signals import ChangeSignal

# A round of many nodes is a check-in and a report of each, and nobody acts on a single one: told one by one to all,
# they would cost the square of their number.
SOON_S = 0.2

# A message costs its receiver half a millisecond of processor time: a thousand hear of these every four seconds.
SOON_S_A_WATCHER = 0.004

# A watcher that is behind by more is sent the whole state.
CHANGES_KEPT = 8


class Watchable(Protocol):
    """What can be watched: ``version`` grows with every change, ``position`` is that of the newest event in it."""

    @property
    def version(self) -> int: ...

    @property
    def position(self) -> Position: ...


@dataclass(frozen=True)
class _Change:
    """What makes the state of version ``version`` of that of ``since``."""

    since: int
    version: int
    message: bytes


class Broadcast:
    """Serialises each state once, however many watch: ``serialise`` gives the view as it is now.

    ``changed``: gives what has changed since it was called last, as a message that says so; None where there are whole
    states only.
    """

    def __init__(
        self, view: Watchable, serialise: Callable[[], bytes], changed: Callable[[], bytes] | None = None
    ) -> None:
        self._view = view
        self._serialise = serialise
        self._change_of = changed
        self._changed = ChangeSignal()
        self._version = -1  # of the newest state that was looked at
        self._stale = True  # it is to be looked at again
        self._whole: bytes | None = None  # None: nobody has asked for it
        self._changes: deque[_Change] = deque(maxlen=CHANGES_KEPT)
        self._watchers = 0
        self._soon: asyncio.TimerHandle | None = None
        self._closed = False

    def wake_soon(self) -> None:
        """The view has changed in what nobody waits for: watchers are told in a moment, of all there is then."""
        if self._soon is None and not self._closed:
            delay = max(SOON_S, self._watchers * SOON_S_A_WATCHER)
            self._soon = asyncio.get_running_loop().call_later(delay, self.wake)

    def wake(self) -> None:
        """The view has changed. Whoever watches is sent the newest state at its next turn."""
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

        ``seen`` may be newer than the view, after a restart forgot progress: that is a change too. ``changes``: where
        it is known what has changed since ``seen``, that alone.
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
        """Takes note of the view as it is now, where it is due."""
        stale, self._stale = self._stale, False
        if not stale or self._view.version == self._version:
            return
        before, self._version, self._whole = self._version, self._view.version, None
        if self._change_of is not None:
            self._changes.append(_Change(before, self._version, self._change_of()))

    def _newest(self) -> bytes:
        """The whole state that was looked at last; where nobody has asked for it yet, of the view as it is now."""
        if self._whole is None:
            self._stale = True
            self._look()
            self._whole = self._serialise()
        return self._whole
