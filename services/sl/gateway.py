"""This node's SN: calls that outlast a short absence of it, and its state as plain data."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from services.errors import SNUnreachable
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.runtime import logs
from services.sl.actions import CheckIn, Publish, Reopen, VoteOut
from services.sl.events import LeftOut, Opened, Reported
from services.sl.view import CheckedIn, Config, Member, Phase, Result, View

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0

# At the end a node does not wait for an SN that does not answer.
LEAVE_DEADLINE_S = 5.0

Reply = TypeVar("Reply")
_log = logs.get("sn")


class Training:
    """One training, as this node. ``pause(seconds)`` waits, or returns early where the node stops.

    A call that finds no SN is made again, with growing waits, for ``patience_s``: each of them is fenced by its round
    and term, so that it does no harm when it arrives twice. Raises what the SN answers, and SNUnreachable.
    """

    def __init__(
        self, client: SNClient, contract: str, patience_s: float, pause: Callable[[float], Awaitable[object]]
    ) -> None:
        self.contract = contract
        self._client = client
        self._patience_s = patience_s
        self._pause = pause

    async def enrol(self, opened: Opened, may_lead: bool, quorum_wait_s: float) -> View:
        config = pb.Config(
            min_peers=opened.min_peers,
            sync_frequency=opened.sync_frequency,
            merge_method=opened.merge_method,
            adaptive_sync=opened.adaptive_sync,
            quorum_wait_ms=round(quorum_wait_s * 1000),
        )
        request = pb.EnrolRequest(contract=self.contract, config=config, may_lead=may_lead)
        reply = await self._insist(lambda: self._client.training.Enrol(request))
        return _view(reply.status)

    async def check_in(self, call: CheckIn, host: str, port: int) -> int:
        """Gives the block that has it."""
        request = pb.CheckInRequest(
            contract=self.contract,
            round=call.round,
            base=call.base,
            digest=bytes.fromhex(call.model.digest),
            size=call.model.size,
            layout=bytes.fromhex(call.model.layout),
            weight=call.weight,
            finished=call.finished,
            host=host,
            port=port,
        )
        return (await self._insist(lambda: self._client.training.CheckIn(request))).block

    async def publish(self, call: Publish) -> None:
        request = pb.PublishRequest(
            contract=self.contract,
            round=call.round,
            term=call.term,
            digest=bytes.fromhex(call.model.digest),
            size=call.model.size,
            left_out=_left_out(call.left_out),
        )
        await self._insist(lambda: self._client.training.Publish(request))

    async def reopen(self, call: Reopen) -> None:
        request = pb.ReopenRequest(
            contract=self.contract, round=call.round, term=call.term, left_out=_left_out(call.left_out)
        )
        await self._insist(lambda: self._client.training.Reopen(request))

    async def vote_out(self, call: VoteOut) -> None:
        request = pb.VoteOutRequest(contract=self.contract, round=call.round, term=call.term)
        await self._insist(lambda: self._client.training.VoteOut(request))

    async def report_progress(self, round_number: int, term: int, done: int, total: int) -> None:
        """Once: the next one says more."""
        request = pb.ProgressRequest(
            contract=self.contract, round=round_number, term=term, bytes_done=done, bytes_total=total
        )
        await self._client.training.ReportProgress(request)

    async def report(self, reported: Reported) -> None:
        request = pb.ReportRequest(
            contract=self.contract,
            round=reported.round,
            loss=reported.loss,
            metric=reported.metric,
            epochs_done=reported.epochs_done,
            epochs_total=reported.epochs_total,
        )
        await self._insist(lambda: self._client.training.Report(request))

    async def leave(self, reason: str) -> None:
        """Once, with a short deadline."""
        request = pb.LeaveRequest(contract=self.contract, reason=reason)
        await self._client.training.Leave(request, timeout=LEAVE_DEADLINE_S)

    async def status(self) -> View:
        request = pb.GetStatusRequest(contract=self.contract)
        return _view(await self._insist(lambda: self._client.training.GetStatus(request)))

    async def views(
        self, lost: Callable[[SNUnreachable], object], back: Callable[[], Awaitable[object]]
    ) -> AsyncIterator[View]:
        """The state after each change, for as long as the SN is not away for longer than ``patience_s``.

        ``lost`` is called when the stream breaks, ``back`` before it is opened again. Raises SNUnreachable.
        """
        loop = asyncio.get_running_loop()
        wait, lost_at = FIRST_WAIT_S, 0.0
        while True:
            problem = SNUnreachable(address=self._client.address, problem="it closed the connection")
            try:
                if lost_at:
                    await back()
                async for status in self._client.watch(self.contract):
                    wait, lost_at = FIRST_WAIT_S, 0.0
                    yield _view(status)
            except SNUnreachable as error:
                problem = error
            if not lost_at:
                lost_at = loop.time()
                lost(problem)
            elif loop.time() - lost_at > self._patience_s:
                raise problem
            await self._pause(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)

    async def _insist(self, call: Callable[[], Awaitable[Reply]]) -> Reply:
        loop = asyncio.get_running_loop()
        give_up, wait = loop.time() + self._patience_s, FIRST_WAIT_S
        while True:
            try:
                return await call()
            except SNUnreachable as error:
                if loop.time() + wait > give_up:
                    raise
                _log.debug("the SN does not answer, trying again", problem=error.facts.get("problem"))
            await self._pause(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)


def _view(status: pb.TrainingStatus) -> View:
    last = status.last_result if status.HasField("last_result") else None
    return View(
        phase=Phase(status.state),
        round=status.round,
        term=status.term,
        leader=status.leader,
        config=Config(status.config.min_peers, status.config.sync_frequency, status.config.merge_method),
        layout=status.layout.hex(),
        layout_by=status.layout_by,
        members=tuple(
            Member(who.name, who.host, who.port, who.fingerprint.hex(), who.active) for who in status.participants
        ),
        check_ins=tuple(
            CheckedIn(entry.name, entry.digest.hex(), entry.size, entry.weight, entry.finished)
            for entry in status.check_ins
        ),
        last=_result(last) if last is not None else None,
        awaited=tuple(status.awaited),
        left_out=_reasons(status.left_out),
        version=status.version,
        block=status.block,
        location=status.location,
        progress_age_s=status.progress.age_s if status.HasField("progress") else None,
    )


def _result(result: pb.RoundResult) -> Result:
    return Result(
        round=result.round,
        digest=result.digest.hex(),
        size=result.size,
        leader=result.leader,
        merged=tuple(result.merged),
        left_out=_reasons(result.left_out),
        term=result.term,
    )


def _reasons(entries: Iterable[pb.LeftOut]) -> LeftOut:
    return tuple((entry.name, entry.reason) for entry in entries)


def _left_out(entries: LeftOut) -> list[pb.LeftOut]:
    return [pb.LeftOut(name=name, reason=reason) for name, reason in entries]
