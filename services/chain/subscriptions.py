"""Hands what happens on the chain to everyone who wants to know, in order."""

import asyncio
from collections import defaultdict
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar


class Addressed(Protocol):
    """Something a contract emitted."""

    @property
    def address(self) -> str: ...


T = TypeVar("T", bound=Addressed)


class Subscription(Generic[T]):
    """An async iterator over new items; ends when it is closed or the chain is. Nothing is dropped."""

    def __init__(self, hub: "Hub[T]", address: str) -> None:
        self._hub = hub
        self._address = address
        self._queue: asyncio.Queue[T | None] = asyncio.Queue()

    def put(self, item: T | None) -> None:
        """One item more; None ends the iteration."""
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
            self.put(None)  # it stays ended, for whoever asks again
            raise StopAsyncIteration
        return item


class Hub(Generic[T]):
    """The subscriptions of one chain, by contract. Used from the event loop only."""

    def __init__(self) -> None:
        self._by_address: defaultdict[str, list[Subscription[T]]] = defaultdict(list)

    @property
    def busy(self) -> bool:
        """Whether anybody subscribes."""
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
