"""Fetches the segments of one stream from all sources that offer them, in parallel, each segment once."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from services.errors import DigestMismatch, PeerUnreachable, SwarmError
from services.runtime.background import Background
from services.runtime.signals import ChangeSignal
from services.sl.transfer.connections import Transfers
from services.sl.transfer.partials import Partial, PartialEnded, WrongSegment
from services.sl.transfer.store import Store
from services.sl.view import TrainingMember

# Segments per request: enough that the time between requests does not matter, few enough to share among sources.
RUN_SEGMENTS = 64
SHARED_RUN_SEGMENTS = 16


@dataclass(frozen=True)
class Source:
    """``path``: that of the stream on this member's file server. ``made``: False if the member may still have to make
    it.
    """

    member: TrainingMember
    path: str
    made: bool = True


class Pull:
    """``moved`` gets bytes as they arrive, in a thread; ``on_segment`` each complete segment, in the event loop.

    After a wrong segment, bytes of its source do not count as moved until it serves a right one. ``apart``: no two
    sources offer the same segments. A source that fails is not asked again until it is offered anew. To be closed.
    """

    def __init__(
        self,
        partial: Partial,
        store: Store,
        transfers: Transfers,
        moved: Callable[[int], object],
        on_segment: Callable[[int], object] = lambda _: None,
        *,
        apart: bool = False,
    ) -> None:
        self.partial = partial
        self._store = store
        self._transfers = transfers
        self._moved = moved
        self._on_segment = on_segment
        self._apart = apart
        self._loop = asyncio.get_running_loop()
        self._offers: dict[Source, list[int]] = {}
        self._background = Background("peers")
        self._tasks: dict[Source, asyncio.Task[None]] = {}
        self._claimed: set[int] = set()
        self._woken = ChangeSignal()
        self.failures: dict[Source, SwarmError] = {}
        self._doubted: set[Source] = set()
        self._closed = False
        partial.hold()

    def offer(self, source: Source, segments: Iterable[int]) -> None:
        """``source`` has these segments, and they are wanted."""
        offers = self._offers.setdefault(source, [])
        offers[:] = sorted({*offers, *segments})
        self.failures.pop(source, None)
        task = self._tasks.get(source)
        if not self._closed and (task is None or task.done()):
            self._tasks[source] = self._background.run(
                self._from(source), f"reading from {source.member.name}", lambda error: self._failed(source, error)
            )
        self._woken.notify()

    @property
    def sources(self) -> Collection[Source]:
        """All sources that have offered anything."""
        return self._offers.keys()

    @property
    def hopeless(self) -> bool:
        """Whether a source has failed and no segment is being fetched."""
        return bool(self.failures) and not self._claimed

    async def until(self, wanted: Collection[int]) -> None:
        """Returns when these segments are here. Raises the error of the source that failed last, or PeerUnreachable."""
        while self.partial.lacks(wanted):
            if self.partial.ended:
                dropped = "what had come of it was dropped here meanwhile"
                raise PeerUnreachable(peer="Nobody", address="?", problem=dropped)
            if not self._hope(wanted):
                nobody = PeerUnreachable(peer="Nobody", address="?", problem="nobody is known to hold it")
                raise next(reversed(self.failures.values()), nobody)
            await self._woken.wait()

    async def close(self) -> None:
        """Returns once no thread works for this pull."""
        if self._closed:
            return
        self._closed = True
        await self._background.close()
        self.partial.release()

    def _hope(self, wanted: Collection[int]) -> bool:
        """Whether a source that has not failed offers a missing segment or is sending one."""
        missing = {index for index in wanted if not self.partial.has(index)}
        return bool(missing & self._claimed) or any(
            source not in self.failures and not missing.isdisjoint(offers) for source, offers in self._offers.items()
        )

    async def _from(self, source: Source) -> None:
        try:
            while True:
                run = self._claim(source)
                if not run:
                    await self._woken.wait()
                    continue
                try:
                    await self._read(source, run)
                finally:
                    self._claimed.difference_update(run)
                    self._woken.notify()
        except PartialEnded:
            self._offers[source].clear()
            self._woken.notify()
        except SwarmError as error:
            self._fails(source, error)

    def _failed(self, source: Source, error: Exception) -> None:
        """An unexpected error counts as a failure of this source."""
        holder = source.member
        problem = f"what it sent cannot be read ({type(error).__name__})"
        address = f"{holder.host}:{holder.port}"
        self._fails(source, PeerUnreachable(peer=holder.name, address=address, problem=problem))

    def _fails(self, source: Source, error: SwarmError) -> None:
        self.failures[source] = error
        self._offers[source].clear()
        self._woken.notify()

    async def _read(self, source: Source, run: range) -> None:
        partial = self.partial

        def take(number: int, data: memoryview) -> None:
            try:
                with self._store.errors(partial.size):
                    partial.put(run[number], data)
                self._doubted.discard(source)
            except WrongSegment:
                self._doubted.add(source)
                found, named = "another segment", "the one that the digest names"
                raise DigestMismatch(node=source.member.name, found=found, expected=named) from None
            self._loop.call_soon_threadsafe(self._received, run[number])

        def moved(count: int) -> None:
            if source not in self._doubted:
                self._moved(count)

        sizes = [partial.size_of(index) for index in run]
        cut = (partial.start_of(run[0]), sizes)
        await self._transfers.read(source.member, source.path, cut, take, moved, made=source.made)

    def _received(self, index: int) -> None:
        self._claimed.discard(index)
        if not self._closed:
            self._on_segment(index)

    def _claim(self, source: Source) -> range:
        """Claims the next segments that are not being fetched, as many in a row as one request may ask for."""
        offers = self._offers[source]
        alone = self._apart or len(self._offers) == 1
        most = RUN_SEGMENTS if alone else SHARED_RUN_SEGMENTS
        gone = next((number for number, index in enumerate(offers) if not self.partial.has(index)), len(offers))
        del offers[:gone]
        first = next(
            (at for at, index in enumerate(offers) if not (index in self._claimed or self.partial.has(index))), None
        )
        if first is None:
            return range(0)
        start = stop = offers[first]
        for index in offers[first : first + most]:
            if index != stop or index in self._claimed or self.partial.has(index):
                break
            stop += 1
        self._claimed.update(range(start, stop))
        return range(start, stop)
