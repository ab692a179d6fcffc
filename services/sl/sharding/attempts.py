"""One attempt at a shared merge, by one node: merges the segments dealt to it, gets the rest of the result."""

import asyncio
from collections.abc import Iterable, Sequence

from services.errors import DigestMismatch, DiskFull, NetworkError, StorageError
from services.runtime import logs
from services.runtime.background import Background
from services.runtime.signals import ChangeSignal
from services.sl.sharding.inputs import MergeContext
from services.sl.sharding.layouts import layout_of
from services.sl.sharding.messages import BeginAttempt, Holds, Seen, ServedWrong, Unreadable, in_messages
from services.sl.sharding.share import Share, ShareHost
from services.sl.sharding.table import runs_of
from services.sl.transfer.partials import Partial, count_of
from services.sl.transfer.pulling import Pull, Source
from services.sl.transfer.store import Stored
from services.sl.view import CheckInEntry
from swarm_callback.params import parse_header

OFFER_AGAIN_S = 0.5

_log = logs.get("round")


def draft_name(begin: BeginAttempt) -> str:
    """Under which a result is served before its digest is known."""
    return f"{begin.round}-{begin.term}-{begin.attempt}"


class Attempt:
    """The merge of those named in ``order``."""

    def __init__(
        self,
        place: MergeContext,
        merger: ShareHost,
        order: BeginAttempt,
        entries: Sequence[CheckInEntry],
    ) -> None:
        self.order = order
        self.closed = False
        self._place = place
        self._merger = merger
        self._say = merger.say
        mine = merger.view.checked_in(place.name)
        stored = place.store.get(mine.digest) if mine is not None else None
        if mine is None or stored is None:
            raise NetworkError(peer=place.name, address="here", problem="it has not checked in to this merge")
        header = stored.header()
        layout = layout_of(parse_header(header, mine.size))
        self.draft: Partial = place.store.draft(draft_name(order), mine.size, header, count_of(mine.size - len(header)))
        place.store.draft_grew.notify()
        self._pull = Pull(self.draft, place.store, place.peers.transfers, self._received, self._on_segment, apart=True)
        self._offers: dict[str, set[int]] = {}
        self._told = bytearray(self.draft.count)  # whether the leader knows the hash
        self._untold = self.draft.count
        self._held: list[int] = []
        self._finishing = False
        self._accused: set[str] = set()
        self._changed = ChangeSignal()
        self.result: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self.share = Share(merger, order, entries, layout, place.store, self.draft, self._has_made)
        self._background = Background("round")
        self._background.run(self.share.run(), "merging a share", merger.failed)
        self._background.run(self._retry_sources(), "getting the result of a merge", merger.failed)

    # --- orders ---------------------------------------------------------------------------------------------

    def deal(self, runs: Sequence[tuple[int, int]]) -> None:
        self.share.deal(self._within(runs))

    def again(self) -> None:
        """The line to the leader was broken: nothing is left of what was dealt, what is here is said once more."""
        self.share.forget()
        self._held = [index for index in range(self.draft.count) if self._told[index] and self.draft.has(index)]
        self._offers.clear()

    def shared(self, by: str, runs: Sequence[tuple[int, int]]) -> None:
        """Somebody is to make these segments of the result, and serves each as soon as it is made."""
        self._get(by, self._within(runs))

    def offered(self, by: str, start: int, hashes: Sequence[bytes]) -> None:
        """Somebody serves these segments of the result; their hashes, by which the leader stands."""
        indices = range(start, start + len(hashes))
        if indices.stop > self.draft.count:
            raise Unreadable(f"segment {indices.stop - 1} of {self.draft.count}")
        known = self.draft.expected
        if any(self._told[index] and known[index] != found for index, found in zip(indices, hashes, strict=True)):
            raise Unreadable("another hash than it told before")
        wrong = {index for index, found in zip(indices, hashes, strict=True) if not self.draft.know(index, found)}
        if wrong:  # somebody has served what the leader knows nothing of
            _log.warning(
                "a segment differs from the one that its merger made", round=self.order.round, segments=len(wrong)
            )
            for offered in self._offers.values():
                offered.difference_update(wrong)
        self._tell(indices)
        self._get(by, indices)
        self._finish_when_complete()
        self.wake()

    @property
    def digest(self) -> str | None:
        """Of the result, as soon as all its segments have been made."""
        manifest = self.draft.manifest()
        return manifest.digest if manifest is not None else None

    @property
    def told(self) -> str | None:
        """Digest of the result by the hashes that the leader stands by; None before it has told them all."""
        return None if self._untold else self.digest

    async def woken(self) -> None:
        """Returns when something has changed."""
        await self._changed.wait()

    async def until_result(self) -> Stored | None:
        """``digest`` is that of an accepted result. None where it comes no more."""
        self._tell(range(self.draft.count))
        self._finish_when_complete()
        while not self.result.done():
            await asyncio.wait([self.result], timeout=min(OFFER_AGAIN_S, self._merger.stall_s))
            if not self.result.done() and (self._pull.hopeless or self._merger.idle_s >= self._merger.stall_s):
                return None
        return self.result.result()

    def wake(self) -> None:
        self._changed.notify()
        self.share.wake()

    async def close(self) -> None:
        """Returns once no thread works for it. What it holds of the result stays in the store."""
        if self.closed:
            return
        self.closed = True
        self.share.stop()
        await self._background.close()
        await self._pull.close()
        self.draft.release()
        if not self.result.done():
            self.result.cancel()

    def say_what_it_holds(self) -> None:
        """To the leader also the hashes of what it was served before whoever made it has said so."""
        held, self._held = sorted(set(self._held)), []
        for some in in_messages(held):
            self._say(Holds(self.order.attempt, tuple(some)))
        if self._merger.view.leader == self._place.name and self._untold:
            unheard = [index for index in range(self.draft.count) if self.draft.has(index) and not self._told[index]]
            for start, stop in runs_of(unheard):
                hashes = [self.draft.expected[index] or b"" for index in range(start, stop)]
                self._say(Seen(self.order.attempt, start, tuple(found.hex() for found in hashes)))

    # --- the result of others ---------------------------------------------------------------------------------

    def _get(self, by: str, indices: Iterable[int]) -> None:
        if self._merger.view.checked_in(by) is None:
            raise Unreadable(f"{by} takes no part")
        known = self._offers.setdefault(by, set())
        missing = {index for index in indices if not self.draft.has(index)} - known
        if by != self._place.name and missing:
            known.update(missing)
            self._offer(by)

    def _offer(self, by: str) -> None:
        member = self._place.find(by)
        if member is not None and not self.closed:
            source = Source(member, f"/v1/merges/{draft_name(self.order)}", made=False)
            self._pull.offer(source, [index for index in self._offers[by] if not self.draft.has(index)])

    async def _retry_sources(self) -> None:
        """A merger that could not be reached is asked again: it may be the only one that has a segment."""
        while True:
            await asyncio.sleep(OFFER_AGAIN_S)
            for source, failure in list(self._pull.failures.items()):
                if isinstance(failure, DiskFull | StorageError):
                    raise failure
                if isinstance(failure, DigestMismatch):
                    self._accuse(source.member.name)
                if source.member.name in self._offers:
                    self._offer(source.member.name)

    def _accuse(self, name: str) -> None:
        if name not in self._accused:
            self._accused.add(name)
            self._say(ServedWrong(self.order.attempt, name))

    def _received(self, count: int) -> None:
        self._place.peers.count(count)
        self._merger.moved(count)

    def _on_segment(self, index: int) -> None:
        if self._told[index]:
            self._held.append(index)
        self._finish_when_complete()

    def _tell(self, indices: Iterable[int]) -> None:
        """The leader knows their hashes, and stands by them."""
        for index in indices:
            if not self._told[index]:
                self._told[index] = 1
                self._untold -= 1
                if self.draft.has(index):
                    self._held.append(index)

    def _has_made(self, indices: Iterable[int]) -> None:
        self._tell(indices)
        self._finish_when_complete()

    def _finish_when_complete(self) -> None:
        """Not before the leader knows all hashes: a stream is final, and what was only believed may be another."""
        if self.draft.complete and not (self._untold or self._finishing or self.closed):
            self._finishing = True
            self._background.run(self._finish(), "storing the result of a merge", self._merger.failed)

    async def _finish(self) -> None:
        stored = await asyncio.to_thread(self._place.store.complete, self.draft)
        if not self.result.done():
            self.result.set_result(stored)
            _log.debug("holds the result", round=self.order.round, term=self.order.term)
        self.say_what_it_holds()

    def _within(self, runs: Sequence[tuple[int, int]]) -> list[int]:
        """Raises Unreadable."""
        if runs[-1][1] > self.draft.count:
            raise Unreadable(f"segment {runs[-1][1] - 1} of {self.draft.count}")
        return [index for start, stop in runs for index in range(start, stop)]
