"""A merge by the leader alone: fetches all parameters, leaves out what cannot be merged, and merges the rest."""

import asyncio
import mmap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.errors import DigestMismatch, ModelError, NetworkError, SwarmError
from services.merge.engine import ParameterSet, merge, passes_of
from services.merge.layout import STORAGE, difference
from services.runtime import logs
from services.sl.round.states import HeldModel
from services.sl.sharding.inputs import FETCH_WAITS_S, too_slow, why_unusable, wrong_sizes
from services.sl.sharding.layouts import layout_of, rounding_of, weights_of
from services.sl.transfer.peers import Peers
from services.sl.transfer.store import Store, Stored
from services.sl.view import CheckInEntry, Exclusion, Model, TrainingMember, View
from swarm_callback import params

# Up to this size, a merge takes less time than handing it to a thread.
INLINE_BYTES = 1024 * 1024

# Seconds between progress reports: much shorter than any failure timeout; a short merge sends none.
PROGRESS_EVERY_S = 1.0

# A value of firstMerge, as in the contract and the callback.
LEADERS_OWN = "leader"

Excluded = dict[str, Exclusion]  # by name
_log = logs.get("round")


class Cancelled(Exception):
    """The merge was cancelled."""


@dataclass(frozen=True)
class MergeOutcome:
    """``model`` is None if fewer than minPeers are left. ``whole``: nodes that already hold all of it."""

    model: Model | None
    left_out: tuple[Exclusion, ...]
    whole: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadContribution:
    """One participant's contribution, complete in the store."""

    entry: CheckInEntry
    stored: Stored


class LeaderMerge:
    """One merge of one term. ``report(done, total)`` gets bytes and may be called from a thread.

    ``view``: what is to be merged. ``find`` gives the newest state of a participant; by default that in ``view``.
    ``patience_s``: seconds that one participant's parameters may take.
    """

    def __init__(  # noqa: PLR0917  # what is merged, and where it is found
        self,
        store: Store,
        peers: Peers,
        view: View,
        report: Callable[[int, int], object],
        find: Callable[[str], TrainingMember | None] | None = None,
        patience_s: float | None = None,
    ) -> None:
        self._patience_s = patience_s
        self._find = find or view.member
        self._store = store
        self._peers = peers
        self._view = view
        rounds = 1 + passes_of(view.config.merge_method)  # each byte is fetched, then read
        self._progress = _Progress(rounds * sum(entry.size for entry in view.check_ins), report)
        self._cancelled = threading.Event()

    @property
    def idle_s(self) -> float:
        """Seconds since the last progress."""
        return time.monotonic() - self._progress.moved_at

    def moved(self, count: int) -> None:
        """Counts progress of what follows the merge."""
        self._progress.moved(count)

    def cancel(self) -> None:
        """Ends ``run`` soon, even while it computes."""
        self._cancelled.set()

    async def run(self, held: HeldModel | None) -> MergeOutcome:
        """``held``: the last merged model, which is the result if no entry has weight.

        Raises DiskFull or StorageError if this node cannot merge, Cancelled.
        """
        if hands_out_one(self._view):
            return await self._hand_out_one()
        left_out = wrong_sizes(self._view, self._view.leader)
        usable = [entry for entry in self._view.check_ins if entry.name not in left_out]
        fetched = await asyncio.gather(*(self._piece(entry, left_out) for entry in usable))
        pieces = self._alike([piece for piece in fetched if piece is not None], left_out)
        need = self._view.config.min_peers
        _log.debug("collected", stage="merge", round=self._view.round, term=self._view.term, pieces=len(pieces))
        while len(pieces) >= need:
            if held is not None and not any(piece.entry.weight for piece in pieces):
                return MergeOutcome(held.model, _sorted(left_out))
            small = sum(piece.entry.size for piece in pieces) <= INLINE_BYTES
            result = self._merge(pieces) if small else await asyncio.to_thread(self._merge, pieces)
            if isinstance(result, Stored):
                return MergeOutcome(result.model, _sorted(left_out))
            left_out.update(result)
            pieces = [piece for piece in pieces if piece.entry.name not in result]
        return MergeOutcome(None, _sorted(left_out))

    async def _hand_out_one(self) -> MergeOutcome:
        """Takes the leader's own parameters or, if they cannot be used, those of the next node."""
        left_out = wrong_sizes(self._view, self._view.leader)
        need = self._view.config.min_peers
        for entry in sorted(self._view.check_ins, key=lambda entry: (entry.name != self._view.leader, entry.name)):
            if len(self._view.check_ins) - len(left_out) < need:
                break
            if entry.name in left_out:
                continue
            piece = await self._piece(entry, left_out)
            if piece is None or not self._alike([piece], left_out):
                continue
            result = await asyncio.to_thread(self._merge, [piece])
            if isinstance(result, Stored):
                return MergeOutcome(result.model, _sorted(left_out))
            left_out.update(result)
        return MergeOutcome(None, _sorted(left_out))

    async def _piece(self, entry: CheckInEntry, left_out: Excluded) -> ReadContribution | None:
        def holders() -> list[TrainingMember]:
            holder = self._find(entry.name)
            return [holder] if holder is not None else []

        moved_at = time.monotonic()

        def moved(count: int) -> None:
            nonlocal moved_at
            moved_at = time.monotonic()
            self._progress.moved(count)

        attempt = 0  # since the last segment arrived

        def on_segment() -> None:
            nonlocal attempt
            attempt = 0

        def waits_s() -> Iterator[float]:
            """Gives up at once if the participant has left, else before the others give up on the waiting leader."""
            nonlocal attempt
            while attempt < len(FETCH_WAITS_S):
                holder = self._find(entry.name)
                if holder is None or not holder.active or time.monotonic() - moved_at >= self._peers.stall_s:
                    return
                attempt += 1
                yield min(FETCH_WAITS_S[attempt - 1], self._peers.stall_s)

        fetching = self._peers.fetch(
            entry.digest, entry.size, holders, waits_s=waits_s(), moved=moved, on_segment=on_segment
        )
        try:
            async with asyncio.timeout(self._patience_s):
                stored = await fetching
        except TimeoutError:
            left_out[entry.name] = Exclusion(entry.name, too_slow(self._patience_s))
            return None
        except (NetworkError, DigestMismatch, ModelError) as error:
            left_out[entry.name] = Exclusion(entry.name, why_unusable(error))
            return None
        except SwarmError:  # this node cannot store it
            raise
        except Exception as error:
            _log.exception("parameters cannot be read", of=entry.name)
            left_out[entry.name] = Exclusion(entry.name, f"its parameters cannot be read ({type(error).__name__})")
            return None
        return ReadContribution(entry, stored)

    def _alike(self, pieces: Sequence[ReadContribution], left_out: Excluded) -> list[ReadContribution]:
        """The contributions whose stream has the layout that all agreed on at check-in."""
        agreed = [piece for piece in pieces if piece.stored.model.layout == self._view.layout]
        for piece in pieces:
            if piece not in agreed:
                name = piece.entry.name
                differs = _difference(name, piece, agreed[0]) if agreed else None
                left_out[name] = Exclusion(
                    name, differs or "its parameters are not those of the model that it checked in with"
                )
        return agreed

    def _merge(self, pieces: Sequence[ReadContribution]) -> Stored | Excluded:
        """The merged stream; or the exclusions of those whose parameters hold NaN or infinity."""
        weights = weights_of([piece.entry for piece in pieces])
        sets = [_parameter_set(piece, weights[piece.entry.name]) for piece in pieces]
        with self._store.incoming("the leader", pieces[0].stored.model.size) as incoming:
            incoming.write(pieces[0].stored.header())

            def read(count: int) -> None:
                if self._cancelled.is_set():
                    raise Cancelled
                self._progress.moved(count * len(sets))

            def write(block: memoryview) -> None:
                read(len(block))
                incoming.write(block)

            not_finite = merge(
                self._view.config.merge_method, sets, write, read=read, rounding=rounding_of(self._view.config)
            )
            if not_finite:
                return {entry.name: non_finite(entry.name, entry.tensor) for entry in not_finite}
            return incoming.commit()


def non_finite(name: str, tensor: str) -> Exclusion:
    """The exclusion of a participant whose ``tensor`` holds NaN or infinity."""
    return Exclusion(name, f"non-finite values in tensor {tensor}", not_finite=True)


def hands_out_one(view: View) -> bool:
    """Whether the result of this round is one participant's own parameters: nothing was merged yet, and a mean of
    models that start differently is smaller than each of them.
    """
    return view.last is None and view.config.first_merge == LEADERS_OWN


class _Progress:
    """Adds up bytes, and reports them from time to time."""

    def __init__(self, total: int, report: Callable[[int, int], object]) -> None:
        self._total = total
        self._report = report
        self._done = 0
        self._said = self.moved_at = time.monotonic()

    def moved(self, count: int) -> None:
        self._done += count
        self.moved_at = now = time.monotonic()
        if now - self._said >= PROGRESS_EVERY_S:
            self._said = now
            self._report(min(self._done, self._total), self._total)


def _difference(name: str, piece: ReadContribution, other: ReadContribution) -> str | None:
    mine, theirs = layout_of(piece.stored.specs()), layout_of(other.stored.specs())
    return difference(mine, name, theirs, other.entry.name)


def _parameter_set(piece: ReadContribution, weight: int) -> ParameterSet:
    """Maps the file: tensors are read as they are needed, and not kept."""
    specs = piece.stored.specs()
    with piece.stored.path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tensors = {spec.name: _tensor(spec, content, piece.stored.header_size) for spec in specs}
    return ParameterSet(piece.entry.name, weight, layout_of(specs), tensors)


def _tensor(spec: params.TensorSpec, content: mmap.mmap, body: int) -> NDArray[np.generic]:
    dtype = np.dtype(STORAGE[spec.dtype])
    count = (spec.stop - spec.start) // dtype.itemsize
    if not count:
        return np.empty(0, dtype)
    return np.frombuffer(content, dtype, count, body + spec.start)


def _sorted(left_out: Excluded) -> tuple[Exclusion, ...]:
    return tuple(sorted(left_out.values()))
