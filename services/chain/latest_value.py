"""The newest of a series of values, for any number of readers, who may skip older ones."""

from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from services.runtime.signals import ChangeSignal

T = TypeVar("T")


class LatestValue(Generic[T]):
    """Use it only from the event loop."""

    def __init__(self) -> None:
        self.value: T | None = None
        self._count = 0
        self._changed = ChangeSignal()
        self._closed = False

    def put(self, value: T) -> None:
        self.value = value
        self._count += 1
        self._changed.notify()

    def close(self) -> None:
        """Ends every iteration."""
        self._closed = True
        self._changed.notify()

    async def follow(self) -> AsyncIterator[T]:
        """The current value, if there is one, then the newest after each change."""
        seen = 0
        while not self._closed:
            if self._count != seen and self.value is not None:
                seen = self._count
                yield self.value
            else:
                await self._changed.wait()
