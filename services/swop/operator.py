"""Follows a taskrunner and does what its state requires of this SWOP, one task at a time."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from services.errors import (
    AlreadyEnrolled,
    EnoughEnrolled,
    PeerHasEnded,
    RunnerIdle,
    StaleAssignment,
    SwarmError,
    TaskRefused,
    UnknownAgent,
)
from services.rpc import swarm_pb2 as pb
from services.runtime import logs
from services.swop import decisions
from services.swop.approvals import Approvals
from services.swop.decisions import AgentState, next_action
from services.swop.link import SwopLink
from services.swop.preparing import Prepared, Workshop
from services.swop.work import Cleaning, PeerNews

LOOK_FOR_APPROVAL_EVERY_S = 0.5

_log = logs.get("swop")


@dataclass
class _Running:
    assignment: int
    task: "asyncio.Task[None]"


class Operator:
    """``workshop`` turns a task into work; ``cleaning`` removes what is left of it.

    ``on_attending`` is called once: from then on, an assigned task counts on this SWOP.
    """

    def __init__(
        self,
        me: AgentState,
        runner: str,
        link: SwopLink,
        *,
        workshop: Workshop,
        cleaning: Cleaning,
        approvals: Approvals,
        on_attending: Callable[[], object],
    ) -> None:
        self._me = me
        self._runner = runner
        self._link = link
        self._workshop = workshop
        self._cleaning = cleaning
        self._approvals = approvals
        self._on_attending: Callable[[], object] | None = on_attending
        self._status: pb.RunnerStatus | None = None
        self._changed = asyncio.Event()
        self._running: _Running | None = None
        self._awaits_approval = False

    async def run(self) -> None:
        """Runs until cancelled; programs that it started then go on. Raises an SN's final refusal."""
        following = asyncio.create_task(self._follow())
        try:
            while True:
                await self._news(following)
                if self._status is not None:
                    await self._act(self._status)
        finally:
            following.cancel()
            tasks = [following, *([self._running.task] if self._running else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        async for status in self._link.watch(self._runner):
            self._take(status)

    def _take(self, status: pb.RunnerStatus) -> None:
        self._status = status
        self._changed.set()

    async def _news(self, following: "asyncio.Task[None]") -> None:
        """Returns when the state has changed, or an approval may have been given."""
        changed = asyncio.create_task(self._changed.wait())
        try:
            timeout = LOOK_FOR_APPROVAL_EVERY_S if self._awaits_approval else None
            await asyncio.wait({changed, following}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            changed.cancel()
        self._changed.clear()

    async def _act(self, status: pb.RunnerStatus) -> None:
        if self._on_attending is not None and decisions.is_counted(status, self._me):
            self._on_attending()
            self._on_attending = None
        working_on = self._running.assignment if self._running else 0
        self._awaits_approval = False
        match next_action(status, replace(self._me, working_on=working_on)):
            case decisions.Attend():
                await self._attend()
            case decisions.EnrolForTask():
                await self._enrol(status)
            case decisions.BeginWork(assignment):
                self._begin(status, assignment)
            case decisions.Missed(assignment):
                await self._all_peers(status, assignment, "The task had ended before this SWOP began its part")
            case decisions.CleanUp(assignment):
                await self._clean_up(assignment)
            case decisions.WaitForOthers():
                pass

    async def _attend(self) -> None:
        request = pb.AttendRequest(runner=self._runner, group=self._me.group, sl_peers=self._me.pairs)
        reply = await self._link.call(lambda sn: sn.runners.Attend(request))
        if reply is not None:
            _log.info("Ready for Task Execution!", runner=self._runner, group=self._me.group, pairs=self._me.pairs)
            self._take(reply.status)

    async def _enrol(self, status: pb.RunnerStatus) -> None:
        """Examines the task and enrols; reports at once if the task will not be done here."""
        refusal = ""
        try:
            prepared = await self._workshop.prepare(status)
            self._check_refusal(status, prepared)
            if self._waits_for_approval(status, prepared):
                return
        except SwarmError as error:
            refusal = str(error)
        peers = self._me.pairs if status.task_type == "RUN_SWARM" else 1
        request = pb.EnrolInTaskRequest(runner=self._runner, assignment=status.assignment, peers=peers)
        settled = (AlreadyEnrolled, EnoughEnrolled, StaleAssignment, RunnerIdle, UnknownAgent)
        reply = await self._link.call(lambda sn: sn.runners.EnrolInTask(request), *settled)
        if reply is None:
            return
        _log.info("Enroll Successful", task=status.task, assignment=status.assignment, peers=peers)
        if refusal:
            _log.warning("task refused", task=status.task, why=refusal)
            await self._all_peers(reply.status, status.assignment, refusal)
        self._take(reply.status)

    def _check_refusal(self, status: pb.RunnerStatus, prepared: Prepared) -> None:
        """Raises TaskRefused."""
        reason = self._approvals.refusal(prepared.digest) if prepared.needs_approval else None
        if reason is not None:
            problem = "the owner of this host does not want it" + (f": {reason}" if reason else "")
            raise TaskRefused(task=f"The task {status.task}", problem=problem)

    def _waits_for_approval(self, status: pb.RunnerStatus, prepared: Prepared) -> bool:
        if not prepared.needs_approval or self._approvals.given(prepared.digest):
            return False
        if self._approvals.ask(prepared.digest, prepared.description):
            _log.warning("a task waits for approval: `swarm swop approve` shows it", task=status.task)
        self._awaits_approval = True
        return True

    def _begin(self, status: pb.RunnerStatus, assignment: int) -> None:
        task = asyncio.create_task(self._carry_out(status, assignment))
        self._running = _Running(assignment, task)

    async def _carry_out(self, status: pb.RunnerStatus, assignment: int) -> None:
        """Reports on every peer, whatever happens."""
        try:
            prepared = await self._workshop.prepare(status)
            if prepared.needs_approval and not self._approvals.given(prepared.digest):
                problem = "what would run is not what the owner of the host approved"
                raise TaskRefused(task=f"The task {status.task}", problem=problem)
            await prepared.work.run(lambda news: self._tell(assignment, news))
        except SwarmError as error:
            await self._all_peers(status, assignment, str(error))
        except Exception as error:
            _log.exception("the work of a task failed")
            await self._all_peers(status, assignment, f"Unexpected error: {error!r}")
        _log.info("Done", task=status.task, assignment=assignment)

    async def _all_peers(self, status: pb.RunnerStatus, assignment: int, why: str) -> None:
        for peer in status.peers:
            if peer.agent == self._me.name and peer.state < pb.PEER_COMPLETE:
                await self._tell(assignment, PeerNews(peer.index, pb.PEER_ERROR, why))

    async def _tell(self, assignment: int, news: PeerNews) -> None:
        request = pb.ReportPeerRequest(
            runner=self._runner,
            assignment=assignment,
            index=news.index,
            name=news.name,
            state=pb.PeerState.Name(news.state),
            description=news.description,
        )
        await self._link.call(lambda sn: sn.runners.ReportPeer(request), PeerHasEnded, StaleAssignment, RunnerIdle)

    async def _clean_up(self, assignment: int) -> None:
        if self._running is not None and self._running.assignment == assignment:
            self._running.task.cancel()
            await asyncio.gather(self._running.task, return_exceptions=True)
        _log.info("cleaning up", assignment=assignment)
        await self._cleaning.clean(assignment)
        request = pb.ReleaseRequest(runner=self._runner, assignment=assignment)
        await self._link.call(lambda sn: sn.runners.Release(request), StaleAssignment, UnknownAgent)
        self._running = None
        _log.info("Ready for Task Execution!", runner=self._runner)
        with contextlib.suppress(SwarmError):
            status = await self._link.call(lambda sn: sn.runners.GetRunner(pb.GetRunnerRequest(runner=self._runner)))
            if status is not None:
                self._take(status)
