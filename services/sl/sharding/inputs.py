"""One participant's parameters, as far as a merger needs them, or the reason why they cannot be used."""

import asyncio
import mmap
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.errors import DigestMismatch, ModelError, NetworkError, PeerUnreachable, SwarmError
from services.merge.layout import difference
from services.runtime.background import Background
from services.sl.sharding.layouts import layout_of
from services.sl.transfer.partials import Partial, let_go, mapped
from services.sl.transfer.peers import Peers
from services.sl.transfer.pulling import Pull, Source
from services.sl.transfer.store import Store
from services.sl.view import CheckInEntry, Exclusion, TrainingMember, View
from swarm_callback.params import parse_header

# Waits between attempts to fetch a participant's parameters; after all of them without progress, it is left out.
FETCH_WAITS_S = (0.05, 0.15, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class MergeContext:
    """The node that merges. ``find`` gives the newest state of a participant. ``patience_s(view)``: seconds that one
    participant's parameters may take; None if there is no limit.
    """

    name: str
    store: Store
    peers: Peers
    find: Callable[[str], TrainingMember | None]
    patience_s: Callable[[View], float | None] = lambda _: None


@dataclass(frozen=True)
class InputCallbacks:
    """Callbacks of an input. ``moved`` gets bytes, in a thread; ``on_segment`` each segment. ``unusable(name, reason,
    segment)``: it is given up; ``segment`` is a missing one. ``failed``: this node cannot store it.
    """

    moved: Callable[[int], object]
    on_segment: Callable[[int], object]
    unusable: Callable[[str, str, int], object]
    failed: Callable[[SwarmError], object]


class Input:
    """Fetches the wanted segments of one participant's parameters."""

    def __init__(self, place: MergeContext, view: View, entry: CheckInEntry, told: InputCallbacks) -> None:
        self._place = place
        self._view = view
        self._entry = entry
        self._told = told
        self._background = Background("round")
        self._wrong_size = wrong_sizes(view, place.name).get(entry.name)
        self._wanted: set[int] = set()
        self._stored = place.store.get(entry.digest)
        self._map: mmap.mmap | None = None
        self._partial: Partial | None = None
        self._pull: Pull | None = None
        self._moved_at = time.monotonic()
        self._taken = 0  # segments that arrived and were correct
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def waits(self) -> bool:
        """Whether more may still arrive."""
        return self._task is not None and not self._task.done()

    def want(self, segments: Iterable[int]) -> None:
        if self._stored is not None:
            return
        partial = self._partial
        self._wanted.update(index for index in segments if partial is None or not partial.has(index))
        if self._wanted and (self._task is None or self._task.done()):
            what = f"getting the parameters of {self._entry.name}"
            self._task = self._background.run(self._get(), what, self._failed)

    def has(self, segments: Iterable[int]) -> bool:
        if self._stored is not None:
            return True
        return self._partial is not None and not self._partial.lacks(segments)

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes of the body; may be called from any thread."""
        if self._stored is not None:
            if self._map is None:
                self._map = mapped(self._stored.path)
            body = memoryview(self._map)[self._stored.header_size :]
            return body[start:stop]
        if self._partial is None:
            raise RuntimeError("nothing of it is here")
        return self._partial.view(start, stop)

    def done_with(self, start: int, stop: int) -> None:
        """These bytes of the body are not needed again soon: they leave this process, but the kernel may keep them."""
        if self._stored is not None:
            if self._map is not None:
                let_go(self._map, self._stored.header_size + start, self._stored.header_size + stop)
        elif self._partial is not None:
            self._partial.done_with(start, stop)

    async def close(self) -> None:
        """Nobody may use it any more: from now on, files deleted meanwhile take no space."""
        await self._background.close()
        if self._pull is not None:
            await self._pull.close()
        self._map = None

    async def _get(self) -> None:
        patience_s = self._place.patience_s(self._view)
        try:
            async with asyncio.timeout(patience_s):
                await self._get_all()
        except TimeoutError:
            self._give_up(too_slow(patience_s))

    async def _get_all(self) -> None:
        """Fetches all that is wanted, with retries."""
        attempt = 0
        if self._wrong_size is not None:
            self._give_up(self._wrong_size.reason)
            return
        while self._wanted:
            self._moved_at = time.monotonic() if not attempt else self._moved_at
            taken = self._taken
            try:
                await self._get_wanted()
            except AnotherLayout as differs:
                self._give_up(str(differs))
                return
            except (NetworkError, DigestMismatch, ModelError) as error:
                attempt = 0 if self._taken > taken else attempt  # a link that breaks often still delivers all
                wait_s = self._wait_s(attempt)
                if wait_s is None:
                    self._give_up(why_unusable(error))
                    return
                attempt += 1
                await asyncio.sleep(wait_s)

    def _give_up(self, reason: str) -> None:
        self._told.unusable(self._entry.name, reason, min(self._wanted, default=0))

    def _failed(self, error: Exception) -> None:
        """If this node cannot store the input, it is at fault itself; any other error is due to what was sent."""
        if isinstance(error, SwarmError):
            self._told.failed(error)
        else:
            self._give_up(f"its parameters cannot be read ({type(error).__name__})")

    async def _get_wanted(self) -> None:
        entry, holder = self._entry, self._place.find(self._entry.name)
        if holder is None:
            raise PeerUnreachable(peer=entry.name, address="?", problem="it has left")
        if self._partial is not None and self._pull is not None and self._partial.ended:
            await self._pull.close()  # it was dropped, or has become a stream
            self._partial = self._pull = None
        if self._partial is None:
            partial = await self._place.peers.begin(holder, entry.digest, entry.size)
            self._check_layout(partial)
            self._pull = Pull(partial, self._place.store, self._place.peers.transfers, self._moved, self._on_segment)
            self._partial = partial
            self._wanted = {index for index in self._wanted if not partial.has(index)}
            self._told.on_segment(0)
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
        """Seconds to the next attempt, or None to give up: at once if the participant has left, else before the others
        give up on the leader, which waits.
        """
        holder = self._place.find(self._entry.name)
        stall_s = self._place.peers.stall_s
        if holder is None or not holder.active or time.monotonic() - self._moved_at >= stall_s:
            return None
        return min(FETCH_WAITS_S[attempt], stall_s) if attempt < len(FETCH_WAITS_S) else None

    def _moved(self, count: int) -> None:
        self._moved_at = time.monotonic()
        self._place.peers.count(count)
        self._told.moved(count)

    def _on_segment(self, index: int) -> None:
        self._taken += 1
        self._wanted.discard(index)
        self._told.on_segment(index)


def wrong_sizes(view: View, name: str) -> dict[str, Exclusion]:
    """Participants whose announced size is not that of the parameters of ``name``, with the reason to leave them out.

    All have checked in with the same header as ``name``, which fixes the size of the stream.
    """
    mine = view.checked_in(name)
    return {
        entry.name: Exclusion(entry.name, f"it announced {entry.size} bytes for parameters that have {mine.size}")
        for entry in view.check_ins
        if mine is not None and entry.size != mine.size
    }


class AnotherLayout(Exception):
    """``str()`` is the difference."""


def too_slow(patience_s: float | None) -> str:
    """The reason for which a participant is left out whose parameters took longer."""
    return f"its parameters did not arrive within {round(patience_s or 0, 1):g} s"


def why_unusable(error: SwarmError) -> str:
    """The reason for which a participant is left out."""
    match error:
        case DigestMismatch():
            return f"it served {error.found} instead of {error.expected}"
        case ModelError():
            return f"its parameters are damaged ({error.problem})"
    problem = error.problem if isinstance(error, NetworkError) else str(error)
    return f"its parameters could not be fetched ({problem})"
