"""Delivers the chain's events to all subscribers, in order."""

import asyncio
from collections import defaultdict
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar


class Addressed(Protocol):
    """Something that a contract emitted."""

    @property
    def address(self) -> str: ...


T = TypeVar("T", bound=Addressed)


class Subscription(Generic[T]):
    """An async iterator over new items; ends when it or the chain is closed. Nothing is dropped."""

    def __init__(self, hub: "Hub[T]", address: str) -> None:
        self._hub = hub
        self._address = address
        self._queue: asyncio.Queue[T | None] = asyncio.Queue()

    def put(self, item: T | None) -> None:
        """Adds an item; None ends the iteration."""
        self._queue.put_nowait(item)

    def close(self) -> None:
        self._hub.remove(self._address, self)
        self.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self._queue.get()
        if item is None:
            self.put(None)  # a later call ends too
            raise StopAsyncIteration
        return item


class Hub(Generic[T]):
    """The subscriptions of one chain, by contract. Use it only from the event loop."""

    def __init__(self) -> None:
        self._by_address: defaultdict[str, list[Subscription[T]]] = defaultdict(list)

    @property
    def busy(self) -> bool:
        """Whether there is any subscription."""
        return any(self._by_address.values())

    def subscribe(self, address: str) -> Subscription[T]:
        subscription = Subscription(self, address)
        self._by_address[address].append(subscription)
        return subscription

    def publish(self, item: T) -> None:
        for subscription in self._by_address.get(item.address, ()):
            subscription.put(item)

    def remove(self, address: str, subscription: Subscription[T]) -> None:
        if subscription in self._by_address[address]:
            self._by_address[address].remove(subscription)

    def close(self) -> None:
        """Ends every subscription."""
        for subscriptions in self._by_address.values():
            for subscription in subscriptions:
                subscription.put(None)
        self._by_address.clear()
