"""Performs the actions that the state machine decides, and feeds their outcome back as events."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from time import monotonic

from aiohttp.web import WebSocketResponse

from services.errors import EXPIRED, MLChannelError, SwarmError, TrainingComplete, UnknownMergeMethod
from services.identity.identity import Identity, PeerIdentity
from services.merge.engine import METHODS
from services.rpc.swarm_pb2 import ResultCopy
from services.runtime import logs
from services.runtime.background import Background
from services.runtime.signals import ChangeSignal
from services.sl.gateway import TrainingClient
from services.sl.link import SNLink
from services.sl.memory import Memory, ResumePoint
from services.sl.ml import MLSide
from services.sl.observer import Observer
from services.sl.own_address import OwnAddress
from services.sl.round import actions as do
from services.sl.round import events as on
from services.sl.round.machine import UnlistedPair, needed, results, step
from services.sl.round.progress import MergeProgress
from services.sl.round.settings import RoundSettings
from services.sl.round.states import (
    Ended,
    Finishing,
    SLState,
    Unopened,
    holds_up_all_others,
    waits_for_the_swarm,
)
from services.sl.round.tasks import RoundTasks, TaskContext
from services.sl.transfer.file_tasks import delete, sync
from services.sl.transfer.peers import Peers
from services.sl.transfer.readers import Readers
from services.sl.transfer.store import Store
from services.sl.view import View

# ML is not told about a wait shorter than this.
TELL_AFTER_S = 1.0

REPORTS_WITHIN_S = 5.0  # if a decision depends on them

LAST_CALLS_S = 5.0  # at the end, for calls that are still under way to the SN

# How often a merged model is synced to disk; a crash of the process alone loses nothing anyway.
SYNC_EVERY_S = 5.0

AWAITED_AGAIN_S = 60.0  # between two warnings that the others wait for this node's ML

# How many steps before an unexpected error are logged.
STEPS_REMEMBERED = 32

_FROM_ML = (on.SessionOpened, on.ParametersOffered, on.ModelReported, on.SessionClosed)
_log = logs.get("round")


@dataclass(frozen=True)
class WorkOfTraining:
    """What a node uses once it is enrolled."""

    training: TrainingClient
    work: RoundTasks


class Runner:
    """One training of one node, from the opening of ML's session to the end.

    ``address``: where peers reach this node's file server.
    """

    def __init__(  # noqa: PLR0917  # who it is, and what it works with
        self,
        identity: Identity,
        address: OwnAddress,
        settings: RoundSettings,
        link: SNLink,
        store: Store,
        memory: Memory,
        ml: MLSide,
        peers: Peers,
        observer: Observer,
    ) -> None:
        self._observer = observer
        self._steps: deque[str] = deque(maxlen=STEPS_REMEMBERED)  # names only: a state holds a whole view
        self.state: SLState = Unopened()
        self.view: View | None = None  # the newest view of the training, kept to the end; None before enrolment
        self._identity = identity
        self._name = identity.name
        self._address = address
        self._settings = settings
        self._link = link
        self._store = store
        self._memory = memory
        self._ml = ml
        self._peers = peers
        self._enrolment: WorkOfTraining | None = None
        self._events: asyncio.Queue[tuple[on.RoundEvent, asyncio.Task[None] | None]] = asyncio.Queue()
        self._background = Background("round")
        self._calls = Background("round")  # calls that must still reach the SN at the end
        self._merging: asyncio.Task[None] | None = None
        self._watching_leader: asyncio.Task[None] | None = None
        self._synced_at = 0.0
        self._stepped = ChangeSignal()
        self.readers = Readers(lambda: self.view, self._results, self._stepped)
        self._telling: asyncio.TimerHandle | None = None
        self._told = ""
        self._delivered = asyncio.Event()

    def _results(self) -> frozenset[str]:
        return frozenset() if self._enrolment is None else results(self.state) | self._enrolment.work.results

    def progress(self) -> MergeProgress | None:
        """The progress of the merge that this node leads."""
        return None if self._enrolment is None else self._enrolment.work.progress

    async def take_copy(self, peer: PeerIdentity, digest: str, moved: Callable[[int], None]) -> ResultCopy:
        """Fetches the result that the leader of the running merge is about to publish, and signs that this node holds
        it.

        Raises NotTheLeader, ModelDiffers, and the errors of a fetch.
        """
        return await self._enrolled.work.take_copy(peer, digest, moved)  # no peer may ask before this node is enrolled

    async def follow(self, leader: PeerIdentity, line: WebSocketResponse) -> None:
        """Merges the segments that the leader of the running merge deals to this node."""
        if self._enrolment is not None:
            await self._enrolment.work.follow(leader, line)

    def post(self, event: on.RoundEvent) -> None:
        """Takes an event from outside."""
        self._events.put_nowait((event, None))

    async def round_over(self) -> None:
        """Returns when ML has got the result of the running round; at once if this node is in none."""
        if not isinstance(self.state, Unopened | Finishing | Ended):
            self._delivered.clear()
            await self._delivered.wait()

    async def run(self, stop: asyncio.Event, guards: Sequence[Coroutine[None, None, None]] = ()) -> None:
        """Runs until the node has ended. Raises the error that ended it.

        ``guards`` raise when something fails without which the node cannot continue.
        """
        self._link.lost, self._link.needed = self._sn_lost, lambda: waits_for_the_swarm(self.state)
        for guard in guards:
            self._spawn(guard, "what the node cannot do without")
        self._spawn(self._stop_when_set(stop), "waiting for the end")
        try:
            while not isinstance(self.state, Ended):
                event, source = await self._events.get()
                if not isinstance(event, on.MergeDone | on.TooFew) or source is self._merging:
                    await self._take(event)
        finally:
            self._cancel_notice()
            await self._background.close()
            await self._calls.close()
            if self._enrolment is not None:
                await self._enrolment.work.close()
        if self.state.error is not None:
            raise self.state.error

    async def _take(self, event: on.RoundEvent) -> None:
        before = self.state
        self._steps.append(f"{type(before).__name__} on {type(event).__name__}")
        try:
            self.state, actions = step(before, event)
        except UnlistedPair:
            if not isinstance(event, _FROM_ML):
                raise
            what = f"it sent {type(event).__name__} while the SL was {type(before).__name__}"
            self.state, actions = step(before, on.Failed(MLChannelError(problem=what)))
        if (node := self.state.node_or_none) is not None:
            self.view = node.view
        self._stepped.notify()
        _log.debug("step", state=type(before).__name__, on=type(event).__name__, to=type(self.state).__name__)
        self._observer.stepped(before, event, self.state)
        if isinstance(self.state, Ended):
            await self._end(actions)
            return
        for action in actions:
            self._perform(action)

    # --- performing actions -------------------------------------------------------------------------------------

    def _perform(self, action: do.Action) -> None:  # noqa: PLR0912  # one line an action
        match action:
            case do.AnswerOpen():
                self._answer_open(action)
            case do.SaveProgress():
                self._remember(action)
            case do.Deliver():
                self._deliver(action)
            case do.NotifyML():
                self._tell(action.text)
            case do.Enrol():
                self._spawn(self._enrol(action.opened, action.again), "enrolling")
            case do.SendCheckIn():
                self._spawn(self._check_in(action), "checking in")
            case do.Publish():
                self._spawn(self._publish(self._enrolled.work.publish(action)), "publishing")
            case do.Reopen():
                self._spawn(self._publish(self._enrolled.training.reopen(action)), "opening the round again")
            case do.VoteOut():
                self._call("vote", self._enrolled.training.vote_out(action))
            case do.SendReport():
                self._call("report", self._enrolled.training.report(action.report))
            case do.Leave():
                self._call("leave", self._enrolled.training.leave(action.reason))
            case do.StartMerge():
                self._merging = self._spawn(self._give(self._enrolled.work.merge(action)), "merging")
            case do.CancelMerge():
                if self._merging is not None:
                    self._merging.cancel()
                self._merging = None
            case do.Fetch():
                self._spawn(self._fetch(action), "fetching the result")
            case do.DiagnoseMismatch():
                self._spawn(self._give(self._enrolled.work.diagnose_mismatch(action)), "comparing models")
            case do.ArmLeaderTimer():
                self._watch_leader(action)
            case do.ArmServingTimer():
                self._spawn(self._serve_for(self._settings.keep_serving_s), "serving on")
            case _:
                raise TypeError(action)

    async def _end(self, actions: tuple[do.Action, ...]) -> None:
        """Performs the last actions in order; everything else is stopped."""
        self._cancel_notice()
        await self._background.close()
        for action in actions:
            if isinstance(action, do.AbortML):
                await self._ml.abort(action.error, action.opened)
            elif isinstance(action, do.Leave):
                self._call("leave", self._enrolled.training.leave(action.reason))
        await self._calls.settle(LAST_CALLS_S)

    @property
    def _known(self) -> View:
        if self.view is None:
            raise RuntimeError("not enrolled")
        return self.view

    @property
    def _enrolled(self) -> WorkOfTraining:
        if self._enrolment is None:
            raise RuntimeError("not enrolled")
        return self._enrolment

    async def _enrol(self, opened: on.SessionOpened, again: bool) -> None:
        """Posts EnrolmentAccepted or Failed; nothing if a node that enrols again finds the training over."""
        try:
            training = self._enrolled.training if again else self._training_of(opened)
            view = await self._taken_into(training, opened, again)
        except SwarmError as error:
            if not (again and isinstance(error, TrainingComplete)):
                self.post(on.Failed(error))
            return
        _log.info("enrolled", contract=opened.contract, round=view.round, active=sum(m.active for m in view.members))
        self._peers.transfers.packed = view.config.transfer_compression != "none"
        if self._enrolment is None:
            self._enrolment, self.view = WorkOfTraining(training, self._tasks_in(training)), view
            self._spawn(self._watch(training), "watching the training")
            self._spawn(training.compare(), "comparing SNs")
            self._spawn(self._say_that_others_wait(), "saying that others wait")
        self.post(on.EnrolmentAccepted(view))

    def _training_of(self, opened: on.SessionOpened) -> TrainingClient:
        if opened.merge_method not in METHODS:
            raise UnknownMergeMethod(method=opened.merge_method, known=", ".join(METHODS))
        patience_s = self._settings.sn_patience_s
        return TrainingClient(self._link, opened.contract, patience_s, lambda: waits_for_the_swarm(self.state))

    def _tasks_in(self, training: TrainingClient) -> RoundTasks:
        settings = self._settings
        limits = (settings.sn_patience_s, settings.leader_timeout_s, settings.longest_merge_s)
        around = TaskContext(self._identity, lambda: self._known, self._stepped.wait, self._tell, *limits)
        return RoundTasks(around, self._store, self._peers, training)

    async def _taken_into(self, training: TrainingClient, opened: on.SessionOpened, again: bool) -> View:
        """Enrols; a participant that comes back after the end still gets the final model."""
        try:
            return await training.enrol(opened, self._settings.may_lead, self._settings.quorum_wait_s, again)
        except TrainingComplete:
            view = await training.status()
            if again or not view.complete or view.member(self._name) is None:
                raise
            return view

    async def _check_in(self, action: do.SendCheckIn) -> None:
        try:
            if self._known.config.follows_reports:  # reports under way must arrive before the check-in
                await self._calls.settle(REPORTS_WITHIN_S)
            block = await self._enrolled.training.check_in(action, self._address)
        except SwarmError as error:
            _log.info("check-in refused", round=action.round, why=str(error))
            self.post(on.CheckInRefused(error))
        else:
            _log.info("checked in", round=action.round, digest=action.model.digest[:16], weight=action.weight)
            self.post(on.CheckInAccepted(block))

    async def _publish(self, call: Awaitable[None]) -> None:
        try:
            await call
        except SwarmError as error:
            _log.info("result refused", why=str(error))
            self.post(on.PublishRefused(error))
        else:
            self.post(on.Published())

    async def _fetch(self, action: do.Fetch) -> None:
        event = await self._enrolled.work.fetch(action)
        if not action.ahead:
            self.post(event)

    def _watch_leader(self, action: do.ArmLeaderTimer) -> None:
        if self._watching_leader is not None:
            self._watching_leader.cancel()
        watch = self._enrolled.work.watch_leader(action)
        self._watching_leader = self._spawn(self._give(watch), "watching the leader")

    async def _serve_for(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.post(on.ServingOver())

    async def _watch(self, training: TrainingClient) -> None:
        async for view in training.views():
            self.post(on.StatusChanged(view))

    async def _say_that_others_wait(self) -> None:
        """Warns each minute that the others wait: a program that hangs reports nothing itself."""
        while True:
            while not holds_up_all_others(self.state):
                await self._stepped.wait()
            since = monotonic()
            while holds_up_all_others(self.state):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(AWAITED_AGAIN_S):
                        while holds_up_all_others(self.state):
                            await self._stepped.wait()
                    continue
                waits_s = round(monotonic() - since)
                _log.warning("all others wait for the ML program of this node", round=self._known.round, for_s=waits_s)

    def _sn_lost(self, error: SwarmError) -> None:
        expired = isinstance(error, EXPIRED)
        what = "a certificate has expired, waiting for a new one" if expired else "no SN can be reached, trying again"
        if not waits_for_the_swarm(self.state):
            _log.warning(f"{what}; nothing is needed from it yet", why=str(error))
            return
        _log.warning(what, why=str(error), for_at_most_s=self._settings.sn_patience_s)
        self._tell(f"{what} for up to {self._settings.sn_patience_s:g} s" + (f": {error}" if expired else ""))

    # --- words and models to ML ---------------------------------------------------------------------------------

    def _deliver(self, action: do.Deliver) -> None:
        self._cancel_notice()
        stored = self._store.get(action.held.model.digest)
        if stored is None:
            raise RuntimeError(f"{action.held.model.digest} was dropped before it was handed over")
        _log.info(
            "merged model",
            round=action.held.round,
            digest=action.held.model.digest[:16],
            contributed=action.contributed,
            over=action.over,
            **({"note": action.note} if action.note else {}),
            **({"next_interval": action.next_sync_interval, "why": action.pace} if action.pace else {}),
        )
        delivery = self._observer.delivering(stored.model.size, lambda: self._ml.deliver(action, stored))
        self._spawn(delivery, "handing over the merged model").add_done_callback(lambda _: self._delivered.set())
        now = asyncio.get_running_loop().time()
        if action.over or now - self._synced_at > SYNC_EVERY_S:
            self._synced_at = now
            self._spawn(sync(stored), "forcing it to the disk")
        trash = self._store.keep_only(needed(self.state) | self._enrolled.work.counted_on)
        if trash:
            self._spawn(delete(trash), "deleting old parameters")

    @property
    def _epochs_done(self) -> int:
        """Epochs that ML had done, before a restart, when it got its last merged model."""
        resume_point = self._memory.resume_point(self._known.location, self._known.first_round)
        return resume_point.epochs_done if resume_point else 0

    def _answer_open(self, action: do.AnswerOpen) -> None:
        done = self._epochs_done if action.late else 0
        self._spawn(self._ml.answer_open(action.round, action.late, done), "answering the program")

    def _remember(self, action: do.SaveProgress) -> None:
        view, held = self._known, action.held
        resume_point = ResumePoint(view.location, view.first_round, held.round, held.model.digest, action.epochs_done)
        self._spawn(asyncio.to_thread(self._memory.keep_resume_point, resume_point), "remembering the round")

    def _tell(self, text: str) -> None:
        """Shows ``text`` to ML, if it still waits for the same after TELL_AFTER_S."""
        if text == self._told:
            return
        self._cancel_notice()
        self._told = text
        loop = asyncio.get_running_loop()
        self._telling = loop.call_later(TELL_AFTER_S, self._tell_now, text)

    def _tell_now(self, text: str) -> None:
        _log.info(text)
        self._spawn(self._ml.notice(text), "telling the program")

    def _cancel_notice(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
        self._told = ""

    # --- tasks --------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[None, None, None], what: str) -> asyncio.Task[None]:
        return self._background.run(work, what, self._failed)

    def _failed(self, error: Exception) -> None:
        """Ends the node after an error that no action expects."""
        if not isinstance(error, SwarmError):
            _log.error("unexpected", steps=", ".join(self._steps))
            error = SwarmError(detail=repr(error))
        self.post(on.Failed(error))

    async def _give(self, work: Awaitable[on.RoundEvent | None]) -> None:
        event = await work
        if event is not None:
            self._events.put_nowait((event, asyncio.current_task()))

    def _call(self, what: str, call: Awaitable[None]) -> None:
        """Makes a call for which the round does not wait."""
        self._calls.run(self._send(what, call), what, self._failed)

    async def _send(self, what: str, call: Awaitable[None]) -> None:
        try:
            await call
        except SwarmError as error:
            _log.warning(f"{what} not taken", why=str(error))

    async def _stop_when_set(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.post(on.StopRequested(self._name))
