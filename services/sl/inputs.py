"""One participant's parameters, as far as a merger needs them, and why they cannot be used where they cannot."""

import asyncio
import mmap
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from services.errors import DigestMismatch, ModelError, NetworkError, PeerUnreachable, SwarmError
from services.merge.layout import difference
from services.sl.layouts import layout_of
from services.sl.partials import Partial, let_go, mapped
from services.sl.peers import Peers
from services.sl.pulling import Pull, Source
from services.sl.store import Store
from services.sl.view import CheckedIn, Member, View
from swarm_callback.params import parse_header

# Between attempts to get a participant's parameters; after the last they are left out.
FETCH_WAITS_S = (0.05, 0.15, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Place:
    """The node that merges. ``find``: a participant as it stands now. ``pause(seconds)`` waits."""

    name: str
    store: Store
    peers: Peers
    find: Callable[[str], Member | None]
    pause: Callable[[float], Awaitable[object]]


class Input:
    """``moved`` gets bytes, in a thread; ``came`` each segment; ``unusable(name, reason)`` is called at most once."""

    def __init__(  # noqa: PLR0917  # what it belongs to, and who is told
        self,
        place: Place,
        view: View,
        entry: CheckedIn,
        moved: Callable[[int], object],
        came: Callable[[int], object],
        unusable: Callable[[str, str], object],
    ) -> None:
        self._place = place
        self._view = view
        self._entry = entry
        self._tell_moved = moved
        self._came = came
        self._unusable = unusable
        self._wrong_size = wrong_sizes(view, place.name).get(entry.name)
        self._wanted: set[int] = set()
        self._stored = place.store.get(entry.digest)
        self._map: mmap.mmap | None = None
        self._partial: Partial | None = None
        self._pull: Pull | None = None
        self._moved_at = time.monotonic()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def satisfied(self) -> bool:
        """Whether all that is wanted is here."""
        return self._stored is not None or not self._wanted

    @property
    def waits(self) -> bool:
        """Whether something more may still come."""
        return self._task is not None and not self._task.done()

    def want(self, segments: Iterable[int]) -> None:
        if self._stored is not None:
            return
        partial = self._partial
        self._wanted.update(index for index in segments if partial is None or not partial.has(index))
        if self._wanted and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._get())

    def has(self, segments: Iterable[int]) -> bool:
        if self._stored is not None:
            return True
        return self._partial is not None and not self._partial.lacks(segments)

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes of the body; from any thread."""
        if self._stored is not None:
            if self._map is None:
                self._map = mapped(self._stored.path)
            body = memoryview(self._map)[self._stored.header_size :]
            return body[start:stop]
        if self._partial is None:
            raise RuntimeError("nothing of it is here")
        return self._partial.view(start, stop)

    def done_with(self, start: int, stop: int) -> None:
        """These bytes of the body are not looked at again soon: they stay with the kernel, and leave this process."""
        if self._stored is not None:
            if self._map is not None:
                let_go(self._map, self._stored.header_size + start, self._stored.header_size + stop)
        elif self._partial is not None:
            self._partial.done_with(start, stop)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._pull is not None:
            await self._pull.close()

    async def _get(self) -> None:
        """All that is wanted, again and again where it breaks off."""
        attempt = 0
        if self._wrong_size is not None:
            self._unusable(self._entry.name, self._wrong_size)
            return
        while self._wanted:
            self._moved_at = time.monotonic() if not attempt else self._moved_at
            try:
                await self._get_wanted()
            except AnotherLayout as differs:
                self._unusable(self._entry.name, str(differs))
                return
            except (NetworkError, DigestMismatch, ModelError) as error:
                wait_s = self._wait_s(attempt)
                if wait_s is None:
                    self._unusable(self._entry.name, why_unusable(error))
                    return
                attempt += 1
                await self._place.pause(wait_s)

    async def _get_wanted(self) -> None:
        entry, holder = self._entry, self._place.find(self._entry.name)
        if holder is None:
            raise PeerUnreachable(peer=entry.name, address="?", problem="it has left")
        if self._partial is None:
            partial = await self._place.peers.begin(holder, entry.digest, entry.size)
            self._check_layout(partial)
            self._pull = Pull(partial, self._place.store, self._place.peers.transfers, self._moved, self._took)
            self._partial = partial
            self._wanted = {index for index in self._wanted if not partial.has(index)}
            self._came(0)
        if self._pull is not None and self._wanted:
            wanted = frozenset(self._wanted)
            self._pull.offer(Source(holder, f"/v1/models/{entry.digest}"), wanted)
            await self._pull.until(wanted)
            self._wanted -= wanted

    def _check_layout(self, partial: Partial) -> None:
        """Raises AnotherLayout."""
        if partial.layout.hex() == self._view.layout:
            return
        mine = self._view.checked_in(self._place.name)
        stored = self._place.store.get(mine.digest) if mine else None
        theirs = layout_of(parse_header(partial.header, partial.size))
        differs = difference(theirs, self._entry.name, layout_of(stored.specs()), self._place.name) if stored else None
        raise AnotherLayout(differs or "its parameters are not those of the model that it checked in with")

    def _wait_s(self, attempt: int) -> float | None:
        """None: given up. Before the others give up on the leader that waits for it; at once where it has left."""
        holder = self._place.find(self._entry.name)
        stall_s = self._place.peers.stall_s
        if holder is None or not holder.active or time.monotonic() - self._moved_at >= stall_s:
            return None
        return min(FETCH_WAITS_S[attempt], stall_s) if attempt < len(FETCH_WAITS_S) else None

    def _moved(self, count: int) -> None:
        self._moved_at = time.monotonic()
        self._place.peers.count(count)
        self._tell_moved(count)

    def _took(self, index: int) -> None:
        self._wanted.discard(index)
        self._came(index)


def wrong_sizes(view: View, name: str) -> dict[str, str]:
    """Whose announced size is not that of the parameters of ``name``, and why they are left out.

    All have checked in with the header that ``name`` has, which fixes the size of what it stands before.
    """
    mine = view.checked_in(name)
    return {
        entry.name: f"it announced {entry.size} bytes for parameters that have {mine.size}"
        for entry in view.check_ins
        if mine is not None and entry.size != mine.size
    }


class AnotherLayout(Exception):
    """``str()`` is the difference."""


def why_unusable(error: SwarmError) -> str:
    """The reason for which a participant is left out."""
    match error:
        case DigestMismatch():
            return f"it served {error.facts['found']} instead of {error.facts['expected']}"
        case ModelError():
            return f"its parameters are damaged ({error.facts.get('problem')})"
    return f"its parameters could not be fetched ({error.facts.get('problem')})"
