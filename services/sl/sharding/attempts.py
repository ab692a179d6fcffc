"""One node's part of an attempt at a shared merge: merges the segments dealt to it, and fetches the rest."""

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
    """The name under which a result is served before its digest is known."""
    return f"{begin.round}-{begin.term}-{begin.attempt}"


class Attempt:
    """An attempt to merge the contributions of the nodes named in ``order``."""

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
        """Called when the connection to the leader broke: drops what was dealt, and reports again what is here."""
        self.share.forget()
        self._held = [index for index in range(self.draft.count) if self._told[index] and self.draft.has(index)]
        self._offers.clear()

    def shared(self, by: str, runs: Sequence[tuple[int, int]]) -> None:
        """``by`` is to make these segments of the result, and serves each as soon as it is made."""
        self._get(by, self._within(runs))

    def offered(self, by: str, start: int, hashes: Sequence[bytes]) -> None:
        """``by`` serves these segments of the result; the leader stands by their hashes."""
        indices = range(start, start + len(hashes))
        if indices.stop > self.draft.count:
            raise Unreadable(f"segment {indices.stop - 1} of {self.draft.count}")
        known = self.draft.expected
        if any(self._told[index] and known[index] != found for index, found in zip(indices, hashes, strict=True)):
            raise Unreadable("another hash than it told before")
        wrong = {index for index, found in zip(indices, hashes, strict=True) if not self.draft.know(index, found)}
        if wrong:  # a node served bytes of which the leader does not know
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
        """Digest of the result as soon as the hashes of all segments are known; else None."""
        manifest = self.draft.manifest()
        return manifest.digest if manifest is not None else None

    @property
    def told(self) -> str | None:
        """Digest of the result from hashes that the leader stands by; None before it has sent all of them."""
        return None if self._untold else self.digest

    async def woken(self) -> None:
        """Returns when something has changed."""
        await self._changed.wait()

    async def until_result(self) -> Stored | None:
        """Waits for the result, whose ``digest`` has been accepted. None if it does not come any more."""
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
        """Returns once no thread works for this attempt. Its part of the result stays in the store."""
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
        """Reports segments held. On the leader's own node, also hashes of segments served before their merger reported
        them.
        """
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
        """Asks failed mergers again: one of them may be the only holder of a segment."""
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
        """Notes that the leader knows the hashes of these segments and stands by them."""
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
        """Waits until the leader knows all hashes: a stream is final, and unconfirmed hashes may be wrong."""
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
