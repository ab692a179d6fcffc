"""Calls about one training through whichever SN is present, and its state as plain data."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from services.errors import SNSilent, SNUnreachable, SwarmError, UnknownContract
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.runtime import logs
from services.runtime.signals import ChangeSignal
from services.sl.link import SNLink
from services.sl.own_address import OwnAddress
from services.sl.patience import Patience
from services.sl.round.actions import Publish, Reopen, SendCheckIn, VoteOut
from services.sl.round.events import ModelReported, SessionOpened
from services.sl.view import AcceptedResult, CheckInEntry, Config, Exclusion, TrainingMember, View

# At the end a node does not wait long for an SN that does not answer.
LEAVE_DEADLINE_S = 5.0

# For how long an SN may know less than another one has shown, before it is taken for cut off.
CATCH_UP_S = 15.0

# How often SNs are compared.
COMPARE_EVERY_S = 30.0
COMPARE_DEADLINE_S = 5.0

Reply = TypeVar("Reply")
_log = logs.get("sn")


class TrainingClient:
    """One training, as this node.

    A call that no SN answers is repeated for ``patience_s``, also through another SN: each names its round and term, so
    that it does no harm if it arrives twice. Raises SNUnreachable, and errors of the SN. ``needed()``: whether the node
    cannot continue without an SN; while it can, it gives up neither views nor enrolment.
    """

    def __init__(
        self, link: SNLink, contract: str, patience_s: float, needed: Callable[[], bool] = lambda: True
    ) -> None:
        self.contract = contract
        self._needed = needed
        self._link = link
        self._patience_s = patience_s
        self._newest: View | None = None  # the newest that an SN has shown
        self._shown_by: SNClient | None = None  # the SN that showed it
        self._shown = ChangeSignal()

    async def enrol(self, opened: SessionOpened, may_lead: bool, quorum_wait_s: float, again: bool) -> View:
        """Enrols this node. ``again``: it was taken for dead, and may no longer be registered either."""
        config = pb.Config(
            min_peers=opened.min_peers,
            sync_frequency=opened.sync_frequency,
            merge_method=opened.merge_method,
            adaptive_sync=opened.adaptive_sync,
            quorum_wait_ms=round(quorum_wait_s * 1000),
            transfer_compression=opened.transfer_compression,
            first_merge=opened.first_merge,
            model_version=opened.model_version,
            weighting=opened.weighting,
            patience=opened.patience,
            metric_down=opened.metric_down,
        )
        request = pb.EnrolRequest(contract=self.contract, config=config, may_lead=may_lead)

        async def call(client: SNClient) -> pb.EnrolReply:
            if again:
                await self._link.register(client)
            return await client.training.Enrol(request)

        client, reply = await self._retried(call, self._needed)
        return _view(reply.status, client.address)

    async def check_in(self, call: SendCheckIn, address: OwnAddress) -> int:
        """Checks in; returns the block that holds the check-in."""

        def request() -> pb.CheckInRequest:
            return pb.CheckInRequest(
                contract=self.contract,
                round=call.round,
                base=call.base,
                digest=bytes.fromhex(call.model.digest),
                size=call.model.size,
                layout=bytes.fromhex(call.model.layout),
                weight=call.weight,
                finished=call.finished,
                host=address.host,
                port=address.port,
            )

        return (await self._retried(lambda client: client.training.CheckIn(request())))[1].block

    async def publish(self, call: Publish) -> None:
        request = pb.PublishRequest(
            contract=self.contract,
            round=call.round,
            term=call.term,
            digest=bytes.fromhex(call.model.digest),
            size=call.model.size,
            left_out=_left_out(call.left_out),
            copy=call.copy,
        )
        await self._retried(lambda client: client.training.Publish(request))

    async def reopen(self, call: Reopen) -> None:
        request = pb.ReopenRequest(
            contract=self.contract, round=call.round, term=call.term, left_out=_left_out(call.left_out)
        )
        await self._retried(lambda client: client.training.Reopen(request))

    async def vote_out(self, call: VoteOut) -> None:
        request = pb.VoteOutRequest(contract=self.contract, round=call.round, term=call.term)
        await self._retried(lambda client: client.training.VoteOut(request))

    async def report_progress(self, round_number: int, term: int, done: int, total: int) -> None:
        """Sent once, without retry: the next report replaces it."""
        request = pb.ProgressRequest(
            contract=self.contract, round=round_number, term=term, bytes_done=done, bytes_total=total
        )
        await self._link.client.training.ReportProgress(request)

    async def report(self, reported: ModelReported) -> None:
        request = pb.ReportRequest(
            contract=self.contract,
            round=reported.round,
            loss=reported.loss,
            metric=reported.metric,
            epochs_done=reported.epochs_done,
            epochs_total=reported.epochs_total,
        )
        await self._retried(lambda client: client.training.Report(request))

    async def leave(self, reason: str) -> None:
        """Sent once, with a short deadline; not if another process holds this node's name now."""
        if self._link.name.is_lost:
            return
        request = pb.LeaveRequest(contract=self.contract, reason=reason)
        await self._link.client.training.Leave(request, timeout=LEAVE_DEADLINE_S)

    async def status(self) -> View:
        request = pb.GetStatusRequest(contract=self.contract)
        client, reply = await self._retried(lambda client: client.training.GetStatus(request))
        return _view(reply, client.address)

    async def views(self) -> AsyncIterator[View]:
        """The state after each change. Raises if no SN can be reached for ``patience_s`` in which one is needed.

        States of an SN that knows less than an earlier one are held back until it has caught up.
        """
        attempt, patience = 0, Patience(self._patience_s, self._needed)
        while True:
            client = self._link.client
            problem: SwarmError = SNUnreachable(address=client.address, problem="it closed the connection")
            stream, shown = client.watch(self.contract, changes=True), Shown(client.address)
            try:
                while (status := await self._link.while_here(client, anext(stream, None))) is not None:
                    attempt = 0
                    view = shown.take(status)
                    if self._newest is None or not view.older_than(self._newest):
                        self._show(view, client)
                        yield view
            except SwarmError as error:
                if not self._ends(error):
                    raise
                problem = error
            finally:
                await stream.aclose()
            if not attempt:
                patience = Patience(self._patience_s, self._needed)
            await self._link.elsewhere(client, problem, attempt, patience)
            attempt += 1

    async def compare(self) -> None:
        """Moves away from an SN that is cut off from the others: it works, but shows nothing new."""
        request = pb.GetStatusRequest(contract=self.contract)
        while True:
            await asyncio.sleep(COMPARE_EVERY_S)
            here = self._link.client
            said = await self._link.ask_another(
                lambda client: client.training.GetStatus(request, timeout=COMPARE_DEADLINE_S)
            )
            if said is None:
                continue
            theirs = _view(said, "another")
            if self._newest is None or not self._newest.older_than(theirs):
                continue
            await asyncio.sleep(CATCH_UP_S)
            if self._newest.older_than(theirs) and self._link.client is here:
                problem = SNSilent(address=here.address)
                _log.warning("the SN lags behind another one", address=here.address, seconds=CATCH_UP_S)
                with contextlib.suppress(SwarmError):
                    await self._link.elsewhere(here, problem, 0, Patience(0))

    def _ends(self, error: SwarmError) -> bool:
        """Whether another SN may serve instead; an SN that has just joined does not know every training yet."""
        return self._link.ends(error) or (self._newest is not None and isinstance(error, UnknownContract))

    def _show(self, view: View, client: SNClient) -> None:
        self._newest, self._shown_by = view, client
        self._shown.notify()

    async def _retried(
        self, call: Callable[[SNClient], Awaitable[Reply]], needed: Callable[[], bool] = lambda: True
    ) -> tuple[SNClient, Reply]:
        """The reply, and the client that gave it."""
        attempt, patience = 0, Patience(self._patience_s, needed)
        while True:
            client = self._link.client
            try:
                await self._caught_up(client)
                return client, await self._link.while_here(client, call(client))
            except SwarmError as error:
                if not self._ends(error):
                    raise
                problem = error
            _log.debug("the SN does not serve, trying again", address=client.address, why=str(problem))
            await self._link.elsewhere(client, problem, attempt, patience)
            attempt += 1

    async def _caught_up(self, client: SNClient) -> None:
        """Returns when this SN knows all that another one has shown. Raises SNUnreachable after CATCH_UP_S."""
        try:
            async with asyncio.timeout(CATCH_UP_S):
                while self._newest and self._shown_by is not client is self._link.client:
                    await self._shown.wait()
        except TimeoutError:
            raise SNUnreachable(address=client.address, problem="it lags behind the other SNs") from None


class Shown:
    """The state of a training, put together from one stream of an SN: the whole state first, then changes."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._version = 0
        self._members: dict[str, TrainingMember] = {}
        self._check_ins: dict[str, CheckInEntry] = {}

    def take(self, status: pb.TrainingStatus) -> View:
        """Raises SNUnreachable for changes to a state that the stream has not shown."""
        if not status.since:
            self._members, self._check_ins = {}, {}
        elif status.since != self._version:
            raise SNUnreachable(address=self._source, problem="it tells of changes to a state that it has not shown")
        self._version = status.version
        for who in status.participants:
            self._members[who.name] = _member(who)
        for name in status.check_ins_gone:
            self._check_ins.pop(name, None)
        for entry in status.check_ins:
            self._check_ins[entry.name] = CheckInEntry(
                entry.name, entry.digest.hex(), entry.size, entry.weight, entry.finished, entry.staleness
            )
        return _view_of(status, self._source, tuple(self._members.values()), tuple(self._check_ins.values()))


def _view(status: pb.TrainingStatus, source: str) -> View:
    """The view of a whole state."""
    return Shown(source).take(status)


def _member(who: pb.Participant) -> TrainingMember:
    return TrainingMember(
        name=who.name,
        host=who.host,
        port=who.port,
        fingerprint=who.fingerprint.hex(),
        active=who.active,
        lost=who.lost,
        may_lead=who.may_lead,
        previous=who.previous_fingerprint.hex(),
        previous_until=who.previous_until,
    )


def _view_of(
    status: pb.TrainingStatus, source: str, members: tuple[TrainingMember, ...], check_ins: tuple[CheckInEntry, ...]
) -> View:
    last = status.last_result if status.HasField("last_result") else None
    return View(
        phase=status.state,
        round=status.round,
        term=status.term,
        leader=status.leader,
        config=Config(
            status.config.min_peers,
            status.config.sync_frequency,
            status.config.merge_method,
            status.config.transfer_compression,
            status.config.first_merge,
            follows_reports=status.config.adaptive_sync or status.config.patience > 0,
        ),
        layout=status.layout.hex(),
        layout_by=status.layout_by,
        members=members,
        check_ins=check_ins,
        last=_result(last) if last is not None else None,
        awaited=tuple(status.awaited),
        left_out=_excluded(status.left_out),
        version=status.version,
        block=status.block,
        location=status.location,
        first_round=status.first_round,
        source=source,
        progress_age_s=status.progress.age_s if status.HasField("progress") else None,
    )


def _result(result: pb.RoundResult) -> AcceptedResult:
    return AcceptedResult(
        round=result.round,
        digest=result.digest.hex(),
        size=result.size,
        leader=result.leader,
        merged=tuple(result.merged),
        left_out=_excluded(result.left_out),
        term=result.term,
        interval=result.interval,
        pace=result.pace,
        best_round=result.best_round,
        stopped_early=result.stopped_early,
    )


def _excluded(entries: Iterable[pb.LeftOut]) -> tuple[Exclusion, ...]:
    return tuple(Exclusion(entry.name, entry.reason, entry.not_finite) for entry in entries)


def _left_out(entries: Iterable[Exclusion]) -> list[pb.LeftOut]:
    return [pb.LeftOut(name=entry.name, reason=entry.reason, not_finite=entry.not_finite) for entry in entries]
