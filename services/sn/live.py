"""One running training: its view follows the chain, watchers follow the view, and timers act on it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Self

from services.chain.events import CheckedIn, Reported, TrainingEvent
from services.chain.training import TrainingGateway
from services.errors import (
    ChainError,
    NotEnrolled,
    NotTheLeader,
    RoundNotClosed,
    StaleRound,
    StaleTerm,
    TakesNoPart,
    TrainingError,
)
from services.rpc import swarm_pb2 as pb
from services.rpc.swarm_pb2 import RoundState
from services.runtime import logs
from services.runtime.background import Background
from services.sn.broadcast import Broadcast
from services.sn.event_log import narrate
from services.sn.membership import Caller
from services.sn.reports import NodeReport, ReportWriter
from services.sn.snapshots import EVERY_EVENTS, Snapshots
from services.sn.statuses import MemberOf, StatusChanges, status
from services.sn.timers import LostTimers, QuorumTimer, WaitingLog
from services.sn.training import Progress, TrainingView

# A leader may report progress as often as it likes; watchers are told at most this often.
PROGRESS_EVERY_S = 0.5

TELL_EVERY_S = 5.0  # how often the log says how far a long history has been read
EXPELLED = "expelled"  # the reason on the chain why such a node left

_log = logs.get("sn")


class NotATraining(Exception):
    """A contract's events make no training: it is entered in the directory as one, but is something else."""


@dataclass(frozen=True)
class TrainingContext:
    """What all trainings of an SN share. ``clock``: seconds, monotonic. ``is_ours``: whether this SN looks after an SL.

    ``member_of``: an SL's entry in the directory. ``observe`` is told of every new event, with the view that includes
    it.
    """

    background: Background
    clock: Callable[[], float]
    grace_s: float
    is_ours: Callable[[str], bool]
    member_of: MemberOf
    snapshots: Snapshots
    observe: Callable[[TrainingView, TrainingEvent], object] = narrate


class LiveTraining:
    """Built by ``opened``. Handlers write through ``gateway``; the outcome arrives as events of the chain.

    ``organizations``: those whose SLs may take part; empty means all.
    """

    def __init__(
        self,
        view: TrainingView,
        gateway: TrainingGateway,
        around: TrainingContext,
        organizations: tuple[str, ...] = (),
    ) -> None:
        name = view.contract
        self.gateway = gateway
        self.organizations = organizations
        self.view = view
        self.reports = ReportWriter(name, self._write_report)
        self._around = around
        changes = StatusChanges(view, around.clock, around.member_of)
        self._broadcast = Broadcast(view, lambda: self.status().SerializeToString(), changes.since_last)
        self._quorum = QuorumTimer(name, gateway.close_round, around.background)
        self._waiting = WaitingLog(name)
        self._lost = LostTimers(name, gateway.leave, around.background, around.grace_s, around.is_ours)
        self._settling: asyncio.Handle | None = None
        self._acted_on = False  # whether something that watchers act on has happened since they were woken
        self._progress_shown = 0.0
        self._progress_timer: asyncio.TimerHandle | None = None
        self._pending_progress: Progress | None = None
        self._stopped = False
        self.makes_sense = True  # as far as the contract's events tell
        self._saved_events = view.events
        self._saving = False

    @classmethod
    async def opened(
        cls, name: str, gateway: TrainingGateway, around: TrainingContext, organizations: tuple[str, ...] = ()
    ) -> Self:
        """Replays the events since the last snapshot; from then on the view follows the chain.

        Raises NotATraining.
        """
        view = await around.snapshots.load(name, gateway.address)
        view = view or TrainingView(contract=name, location=gateway.address)
        training = cls(view, gateway, around, organizations)
        await training._open()
        return training

    async def _open(self) -> None:
        told_at = self._around.clock()
        async for page in self.gateway.history(max(0, self.view.position.block)):
            for event in page:
                self._fold(event)
            if self._around.clock() - told_at > TELL_EVERY_S:
                told_at = self._around.clock()
                _log.info("reading the history", contract=self.view.contract, block=self.view.position.block)
        await self._keep()
        self._settle()
        contract = self.view.contract
        self._around.background.keep(self.reports.run, f"recording reports of {contract}")
        self._around.background.run(self._follow(), f"following {contract}", vital=True)

    def require_part(self, who: Caller) -> None:
        """Raises TakesNoPart if the training is not for the caller's organization."""
        only = self.organizations
        if only and who.organization not in only:
            raise TakesNoPart(
                contract=self.view.contract,
                organizations=", ".join(only),
                name=who.name,
                organization=who.organization,
            )

    def end_streams(self) -> None:
        """Ends streams and timers; nothing is decided from now on."""
        self._stopped = True
        for timer in (self._quorum, self._waiting, self._lost):
            timer.stop()
        if self._progress_timer is not None:
            self._progress_timer.cancel()
        self._broadcast.close()

    async def close(self) -> None:
        """Writes the reports that are still held, and a snapshot."""
        self.end_streams()
        await self.reports.finish()
        await self._keep()

    @property
    def giving_up(self) -> frozenset[str]:
        """Participants that will count as lost unless they come back in time."""
        return self._lost.running

    def status(self) -> pb.TrainingStatus:
        return status(self.view, self._around.clock(), self._around.member_of)

    async def status_at(self, block: int) -> pb.TrainingStatus:
        """The state with everything up to and including ``block``."""
        await self._broadcast.until(block)
        return self.status()

    def watch(self, seen: int, *, changes: bool = False) -> AsyncIterator[bytes]:
        """Serialised states; see Broadcast.states."""
        return self._broadcast.states(seen, changes=changes)

    def stream_opened(self, node: str) -> None:
        """A Watch stream is a participant's sign of life."""
        self._lost.opened(node, self.view)

    def stream_closed(self, node: str) -> None:
        """The stream ended, in order or not: without another one in time, the participant counts as lost."""
        if not self._stopped:
            self._lost.closed(node, self.view)

    def registered(self, node: str) -> None:
        """A node has registered again: at another address, or with another SN."""
        if node in self.view.participants and not self._stopped:
            self.view.touch()
            self._broadcast.wake()
            self._lost.follow(self.view)

    def sns_changed(self) -> None:
        """This SN may look after other participants now."""
        if not self._stopped:
            self._lost.follow(self.view)

    def require_leader(self, leader: str, round_number: int, term: int) -> None:
        """Raises StaleRound, RoundNotClosed, StaleTerm or NotTheLeader."""
        view = self.view
        if round_number != view.round:
            raise StaleRound(given=round_number, current=view.round)
        if view.state != RoundState.MERGE:
            raise RoundNotClosed(round=round_number)
        if term != view.term:
            raise StaleTerm(round=round_number, given=term, current=view.term)
        if leader != view.leader:
            raise NotTheLeader(name=leader, leader=view.leader, round=round_number, term=term)

    def progress(self, leader: str, round_number: int, term: int, done: int, total: int) -> None:
        """A leader's sign of life. Raises what ``require_leader`` raises."""
        self.require_leader(leader, round_number, term)
        self._pending_progress = Progress(done, total, self._around.clock())
        wait = self._progress_shown + PROGRESS_EVERY_S - self._around.clock()
        if wait <= 0:
            self._show_progress()
        elif self._progress_timer is None:
            self._progress_timer = asyncio.get_running_loop().call_later(wait, self._show_progress)

    def _show_progress(self) -> None:
        if self._progress_timer is not None:
            self._progress_timer.cancel()
            self._progress_timer = None
        if self._pending_progress is not None and self.view.state == RoundState.MERGE:
            self._progress_shown = self._around.clock()
            self.view.move(self._pending_progress)
            self._broadcast.wake()
        self._pending_progress = None

    async def _follow(self) -> None:
        try:
            await self._take_events()
        except NotATraining as error:
            _log.error("a contract in the directory is not a training", **self._facts, why=str(error))
            self.makes_sense = False
            self.end_streams()

    @property
    def _facts(self) -> dict[str, str]:
        return {"contract": self.view.contract, "location": self.view.location}

    def _fold(self, event: TrainingEvent) -> bool:
        """Raises NotATraining."""
        try:
            return self.view.apply(event)
        except Exception as error:
            raise NotATraining(f"{type(event).__name__} is not possible there: {error!r}") from error

    async def _take_events(self) -> None:
        async for event in self.gateway.follow(max(0, self.view.position.block)):
            if not self._fold(event):
                continue
            self._around.observe(self.view, event)
            self._acted_on |= not isinstance(event, CheckedIn | Reported)
            if self._settling is None:
                # Events of one block come together; watchers and timers act after the last one.
                self._settling = asyncio.get_running_loop().call_soon(self._settle)
        if not self._stopped:
            raise ChainError(problem="its events ended", log="the log of this node")

    def _settle(self) -> None:
        self._settling = None
        if self._stopped:
            return
        if self._acted_on:
            self._broadcast.wake()
        else:
            self._broadcast.wake_soon()
        self._acted_on = False
        self._quorum.follow(self.view)
        self._waiting.follow(self.view)
        self._lost.follow(self.view)
        if self.view.events - self._saved_events >= EVERY_EVENTS and not self._saving:
            self._around.background.run(self._keep(), f"keeping where {self.view.contract} stands")

    async def _keep(self) -> None:
        """Saves a snapshot, unless one is being saved or there are no new events."""
        if self._saving or self.view.events == self._saved_events:
            return
        self._saving, self._saved_events = True, self.view.events
        try:
            await self._around.snapshots.save(self.view)
        finally:
            self._saving = False

    def report(self, report: NodeReport) -> None:
        """Takes a report, to be written later. Raises NotEnrolled, and StaleRound for a round without a result."""
        if report.name not in self.view.participants:
            raise NotEnrolled(name=report.name)
        accepted = self.view.last_result.round if self.view.last_result else 0
        if not self.view.first_round <= report.round <= accepted:
            raise StaleRound(given=report.round, current=accepted)
        self.reports.put(report)

    def expelled(self, names: Sequence[str]) -> None:
        """These nodes take no further part. The SN that looks after them records that on the chain, so that no round
        waits for them.
        """
        for name in names:
            if name in self.view.active and self._around.is_ours(name) and not self._stopped:
                work = f"taking {name} out of {self.view.contract}"
                self._around.background.run(self._leave_for(name), work)

    async def _leave_for(self, name: str) -> None:
        with contextlib.suppress(TrainingError):  # it has left on its own meanwhile
            await self.gateway.leave(name, EXPELLED)

    async def _write_report(self, report: NodeReport) -> None:
        await self.gateway.report(
            report.round, report.name, report.loss, report.metric, report.epochs_done, report.epochs_total
        )
