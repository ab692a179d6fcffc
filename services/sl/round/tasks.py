"""The slow work of a round: merging, fetching a result, finding a difference, watching a leader."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from aiohttp.web import WebSocketResponse

from services.errors import (
    ModelDiffers,
    NetworkError,
    NoSecondCopy,
    NotTheLeader,
    SizeDiffers,
    SwarmError,
    TooManyCalls,
)
from services.identity.identity import Identity, PeerIdentity
from services.identity.signing import Signer
from services.merge.layout import difference
from services.rpc.result_copy import CopyClaim
from services.rpc.swarm_pb2 import ResultCopy, RoundState
from services.runtime import logs
from services.runtime.background import Background
from services.sl.gateway import TrainingClient
from services.sl.round import events as on
from services.sl.round.actions import ArmLeaderTimer, DiagnoseMismatch, Fetch, Publish, StartMerge
from services.sl.round.progress import MergeProgress, longest_merge_s
from services.sl.sharding.follower import ShardFollower
from services.sl.sharding.inputs import MergeContext
from services.sl.sharding.layouts import layout_of
from services.sl.sharding.leader import ShardLeader
from services.sl.sharding.leader_merge import LeaderMerge, MergeOutcome, hands_out_one
from services.sl.transfer.peers import Peers
from services.sl.transfer.readers import SHARED_FROM_BYTES
from services.sl.transfer.replication import ResultReplicator, UnpublishedResult
from services.sl.transfer.store import Store, Stored
from services.sl.transfer.waiting import ResultWait
from services.sl.view import AcceptedResult, Exclusion, TrainingMember, View

_EXPLAIN_ATTEMPTS = 3
_EXPLAIN_WAIT_S = 0.3

# By then, a holder that was about to get a result itself has it.
_TELL_AFTER_ATTEMPTS = 3

# Wait before another copy is made, if the SN did not accept the previous one.
_COPY_AGAIN_S = 0.5

# A merge has one result, and a restarted leader may make another. With more, a leader that lies could fill the disk.
COPIES_OF_A_TERM = 4

_log = logs.get("round")


@dataclass(frozen=True)
class TaskContext:
    """The node for which the work is done. ``view()``: the newest view, as peers may have returned at other addresses.

    ``changed()`` returns when the view has changed. ``tell(text)``: tells ML why it waits. ``patience_s``: seconds to
    wait for what the node cannot do without. ``leader_timeout_s``, ``longest_merge_s``: as in the settings.
    """

    identity: Identity
    view: Callable[[], View]
    changed: Callable[[], Awaitable[object]]
    tell: Callable[[str], object]
    patience_s: float
    leader_timeout_s: float = 60.0
    longest_merge_s: float | None = None

    @property
    def name(self) -> str:
        return self.identity.name


class RoundTasks:
    """Each action's method returns the event that results from it."""

    def __init__(self, around: TaskContext, store: Store, peers: Peers, training: TrainingClient) -> None:
        self._around = around
        self._store = store
        self._peers = peers
        self._training = training
        self._signer = Signer(around.identity)
        self._background = Background("round")
        self._leading: tuple[View, LeaderMerge] | None = None
        self._place = MergeContext(around.name, store, peers, self._member, self._patience_s)
        self._following = ShardFollower(self._place, around.view, around.changed)
        self._copies: dict[str, tuple[int, int]] = {}  # by digest: round and term whose result it may be
        self._made: str | None = None  # digest of the model that this node merged last

    @property
    def progress(self) -> MergeProgress | None:
        """The progress of the merge that this node leads or led last."""
        if self._leading is None:
            return None
        view, merging = self._leading
        return MergeProgress(view.round, view.term, merging.idle_s)

    async def take_copy(self, peer: PeerIdentity, digest: str, moved: Callable[[int], None]) -> ResultCopy:
        """Fetches the result that the leader of the running merge is about to publish, and signs that this node holds
        it.

        Raises NotTheLeader, TooManyCalls, ModelDiffers, and the errors of a fetch.
        """
        view = self._around.view()
        leader, mine = view.member(view.leader), view.checked_in(self._around.name)
        leads = leader is not None and peer.may_act_as(leader.name, *leader.keys)
        if view.phase != RoundState.MERGE or not leads or leader is None or mine is None:
            raise NotTheLeader(name=peer.name, term=view.term, round=view.round, leader=view.leader or "nobody")
        same_term = [held for held, of in self._copies.items() if of == (view.round, view.term)]
        if digest not in same_term and len(same_term) >= COPIES_OF_A_TERM:
            problem = f"{len(same_term)} were taken in term {view.term} of round {view.round}, and a merge has one"
            raise TooManyCalls(name=leader.name, action="results to copy", problem=problem, seconds=1)
        # Replaced, not changed in place: other threads read it.
        self._copies = {held: of for held, of in self._copies.items() if of[0] >= view.round} | {
            digest: (view.round, view.term)
        }
        stored = await self._following.whole(digest)
        stored = stored or await self._peers.fetch(digest, mine.size, lambda: [leader], moved=moved)
        if stored.model.layout != view.layout:  # it would reach every node
            raise ModelDiffers(difference=f"What {leader.name} is about to publish has not the layout that was agreed")
        return CopyClaim(view.location, view.round, view.term, digest, self._around.name).signed(self._signer)

    @property
    def counted_on(self) -> frozenset[str]:
        """Digests of results that this node told a leader it holds. They may be accepted, or already are."""
        accepted = self._around.view().accepted
        copies = {digest for digest, (number, _) in self._copies.items() if number > accepted}
        shared = self._following.counted_on
        return frozenset(copies if shared is None else {*copies, shared})

    @property
    def results(self) -> frozenset[str]:
        """Digests of results that a peer may know of before this node does."""
        return self.counted_on if self._made is None else self.counted_on | {self._made}

    async def merge(self, call: StartMerge) -> on.RoundEvent:
        view = call.view
        loop = asyncio.get_running_loop()

        def report(done: int, total: int) -> None:
            loop.call_soon_threadsafe(self._say_progress, view, done, total)

        merging = LeaderMerge(self._store, self._peers, view, report, self._member, self._patience_s(view))
        self._leading = view, merging
        copy = None
        _log.info("leads the round", round=view.round, term=view.term, of=len(view.check_ins))
        try:
            shared = await self._merge_shared(call, merging)
            outcome = shared or await merging.run(call.held)
            self._made = outcome.model.digest if outcome.model is not None else self._made
            if outcome.model is not None and (call.held is None or outcome.model != call.held.model):
                if shared is None:
                    _log.debug("written", round=view.round, term=view.term)
                result = UnpublishedResult(outcome.model, view, _names(outcome.left_out), frozenset(outcome.whole))
                copy = await self._replicator(merging.moved).replicate(result)
        except SwarmError as error:
            return on.Failed(error)
        finally:
            merging.cancel()
        for out in outcome.left_out:
            _log.warning("left out of the round", round=view.round, left_out=out.name, reason=out.reason)
        if outcome.model is None:
            return on.TooFew(outcome.left_out)
        return on.MergeDone(outcome.model, outcome.left_out, copy)

    async def publish(self, call: Publish) -> None:
        """Publishes a result. If the SN does not accept the copy, makes another one: the holder may have left.

        This does not count as progress: a leader that stays here is voted out. Raises other errors of the SN.
        """
        if self._leading is None:
            raise RuntimeError("it leads nothing")
        view, _ = self._leading
        while True:
            try:
                await self._training.publish(call)
            except NoSecondCopy as error:
                _log.warning("the result is not taken yet", round=call.round, term=call.term, why=str(error))
            else:
                return
            await asyncio.sleep(_COPY_AGAIN_S)
            result = UnpublishedResult(call.model, view, _names(call.left_out))
            call = replace(call, copy=await self._replicator(lambda _: None).replicate(result))

    async def follow(self, peer: PeerIdentity, line: WebSocketResponse) -> None:
        """Merges the segments that the leader deals to this node."""
        await self._following.follow(peer, line)

    async def close(self) -> None:
        await self._background.close()
        await self._following.close()

    async def _merge_shared(self, call: StartMerge, merging: LeaderMerge) -> MergeOutcome | None:
        """None if sharing is not worth it, or no other node may merge."""
        view = call.view
        if hands_out_one(view):
            return None
        mine = view.checked_in(self._around.name)
        stored = self._store.get(mine.digest) if mine is not None else None
        if stored is None or stored.model.size <= SHARED_FROM_BYTES or stored.model.layout != view.layout:
            return None
        members = [view.member(entry.name) for entry in view.check_ins if entry.name != self._around.name]
        if not any(member is not None and member.active and member.may_lead for member in members):
            return None
        leading = ShardLeader(self._place, view, merging.moved, self._around.view)
        await self._following.takes(leading.merger)
        try:
            return await leading.run(call.held, layout_of(stored.specs()))
        finally:
            self._background.run(leading.close(self._peers.stall_s), "hanging up")

    def _replicator(self, moved: Callable[[int], object]) -> ResultReplicator:
        return ResultReplicator(self._peers, moved, self._around.view, lambda: self._signer.trust)

    def _compare(self, result: AcceptedResult) -> None:
        """Warns if the accepted result differs from a copy: the leader may have been restarted and merged other
        parameters.
        """
        for digest, of in self._copies.items():
            if of == (result.round, result.term) and digest != result.digest and self._store.get(digest) is not None:
                _log.warning(
                    "the accepted result differs from the copy that its leader gave to this node: find out why",
                    round=result.round,
                    term=result.term,
                    leader=result.leader,
                    copy=digest,
                    accepted=result.digest,
                )

    async def fetch(self, call: Fetch) -> on.RoundEvent:
        self._compare(call.result)
        try:
            stored = await self._following.result(call.result) or await self._fetch(call.result)
        except SwarmError as error:
            _log.warning("result not fetched", round=call.result.round, why=str(error))
            return on.FetchFailed(error)
        return on.Fetched(stored.model)

    async def diagnose_mismatch(self, call: DiagnoseMismatch) -> on.RoundEvent:
        """Names, if possible, the tensor in which this node's model differs from the agreed one."""
        problem = "its layout is another one"
        for attempt in range(_EXPLAIN_ATTEMPTS):
            if attempt:  # the holder may not know yet that this node is enrolled
                await asyncio.sleep(_EXPLAIN_WAIT_S)
            try:
                differs = await self._difference(call)
            except SwarmError as error:
                problem = str(error)
                continue
            return on.Failed(ModelDiffers(difference=differs))
        theirs = f"the one that {call.agreed_by} checked in with"
        text = f"The model of {self._around.name} differs from {theirs} ({problem})"
        return on.Failed(ModelDiffers(difference=text))

    async def watch_leader(self, call: ArmLeaderTimer) -> on.RoundEvent | None:
        """Returns when this term's leader has shown no progress for the failure timeout, when it has led for as long as
        a merge may take, whatever it says of its progress, or when its term is over.
        """
        loop, timeout_s = asyncio.get_running_loop(), self._around.leader_timeout_s
        began, left = loop.time(), timeout_s
        where = {"round": call.round, "term": call.term}
        while True:
            await asyncio.sleep(left)
            view = await self._training.status()
            if (view.phase, view.round, view.term) != (RoundState.MERGE, call.round, call.term):
                return None
            led_s = loop.time() - began
            limit_s = self._longest_s(view)
            if led_s >= limit_s:
                _log.warning("the leader takes too long", **where, seconds=round(limit_s))
                return on.LeaderSilent(call.round, call.term)
            silent_s = min(led_s, view.progress_age_s or math.inf)
            if silent_s >= timeout_s:
                silent_s = min(silent_s, await self._idle_s(view))
            if silent_s >= timeout_s:
                _log.warning("the leader shows no progress", **where, seconds=timeout_s)
                return on.LeaderSilent(call.round, call.term)
            left = min(timeout_s - silent_s, limit_s - led_s)

    def _longest_s(self, view: View) -> float:
        """Seconds that the merge of ``view`` may take."""
        mine = view.checked_in(self._around.name)
        around = self._around
        return around.longest_merge_s or longest_merge_s(view, mine.size if mine else 0, around.leader_timeout_s)

    def _patience_s(self, view: View) -> float:
        """Seconds that one node's parameters may take, so that the merge still ends in time without that node."""
        return self._longest_s(view) / 2

    async def _idle_s(self, view: View) -> float:
        """Asks the leader itself, as it may report its progress to another SN than this node's."""
        leader = view.member(view.leader)
        if leader is None:
            return math.inf
        try:
            progress = await self._peers.ask_progress(leader)
        except NetworkError as error:
            _log.debug("the leader does not say how far it is", why=str(error))
            return math.inf
        return progress.idle_s if (progress.round, progress.term) == (view.round, view.term) else math.inf

    async def _fetch(self, result: AcceptedResult) -> Stored:
        def holders() -> list[TrainingMember]:
            left_out = (entry.name for entry in result.left_out)  # if no other was there, one of these may hold it
            names = list(dict.fromkeys((result.leader, *result.merged, *left_out)))
            found = [self._member(name) for name in names if name != self._around.name]
            return [member for member in found if member is not None and member.host]

        def failed(attempt: int) -> None:
            if attempt == _TELL_AFTER_ATTEMPTS:
                names = ", ".join(member.name for member in holders())
                self._around.tell(f"the result of round {result.round} cannot be had from {names or 'anybody'} yet")

        like = self._store.like(self._around.view().layout)
        if like is not None and like.model.size != result.size:  # before anything is requested or space is reserved
            raise SizeDiffers(given=result.size, agreed=like.model.size)
        waiting = ResultWait(self._around.patience_s, lambda: self._around.view().accepted > result.round, failed)
        return await self._peers.fetch_result(result.round, result.digest, result.size, holders, waiting)

    def _member(self, name: str) -> TrainingMember | None:
        return self._around.view().member(name)

    async def _difference(self, call: DiagnoseMismatch) -> str:
        stored = self._store.get(call.model.digest)
        held = self._store.get(call.merged.digest) if call.merged else None
        digest, size, holder = _example(self._around.view(), call.agreed_by)
        if stored is not None and held is not None:
            specs = held.specs()
        elif stored is not None and holder is not None:
            specs = await self._peers.fetch_specs(digest, size, holder)
        else:
            raise ModelDiffers(difference="nobody is there to compare with")
        theirs, mine = layout_of(specs), layout_of(stored.specs())
        differs = difference(mine, self._around.name, theirs, call.agreed_by)
        return differs or "The headers of the two models differ in form"

    def _say_progress(self, view: View, done: int, total: int) -> None:
        self._background.run(self._report_progress(view, done, total), "reporting progress")

    async def _report_progress(self, view: View, done: int, total: int) -> None:
        try:
            await self._training.report_progress(view.round, view.term, done, total)
        except SwarmError as error:
            _log.debug("progress not reported", why=str(error))


def _names(left_out: Iterable[Exclusion]) -> frozenset[str]:
    return frozenset(entry.name for entry in left_out)


def _example(view: View, agreed_by: str) -> tuple[str, int, TrainingMember | None]:
    """Digest and size of a stream with the agreed layout, and who holds it."""
    entry = view.checked_in(agreed_by) or next(iter(view.check_ins), None)
    if entry is not None:
        return entry.digest, entry.size, view.member(entry.name)
    if view.last is not None:
        return view.last.digest, view.last.size, view.member(view.last.leader)
    return "", 0, None
