"""Merges what the leader of a shared merge deals to this node. Only the leader of the running term may give orders."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import WSMsgType, web

from services.errors import NotTheLeader, StaleTerm, SwarmError
from services.identity.identity import PeerIdentity
from services.rpc.swarm_pb2 import RoundState
from services.runtime import logs
from services.runtime.background import Background
from services.sl.sharding.attempts import Attempt
from services.sl.sharding.inputs import MergeContext
from services.sl.sharding.messages import BeginAttempt, Declined, Order, ShardMessage, Unreadable, decode, encode, words
from services.sl.sharding.worker import ShardWorker
from services.sl.transfer.readers import CATCH_UP_S
from services.sl.transfer.store import Stored
from services.sl.view import AcceptedResult, View

_log = logs.get("round")


class HungUp(Exception):
    """The leader has closed the connection."""


class ShardFollower:
    """One merge at a time. ``view()``: the newest view of the training; ``changed()`` returns when it has changed."""

    def __init__(self, place: MergeContext, view: Callable[[], View], changed: Callable[[], Awaitable[object]]) -> None:
        self._place = place
        self._view = view
        self._changed = changed
        self._merger: ShardWorker | None = None
        self._changing = asyncio.Lock()  # held to change ``_merger``
        self._lines = 0

    async def takes(self, merger: ShardWorker) -> None:
        """Takes the merger of a merge that this node leads itself."""
        async with self._changing:
            await self._drop()
            self._merger = merger

    async def follow(self, peer: PeerIdentity, line: web.WebSocketResponse) -> None:
        """Runs until the leader hangs up, no longer leads, or sends what makes no sense."""
        try:
            async with asyncio.timeout(CATCH_UP_S):
                first = await self._heard(line)
                view = await self._led_by(peer, first)
        except HungUp:
            return
        except (Unreadable, SwarmError, TimeoutError) as error:
            _log.warning("refused an order", by=peer.name, why=str(error) or "it was not heard of in time")
            await line.send_str(encode(Declined(words(str(error) or "not known here to lead"))))
            return
        merger = await self._merger_for(view)
        answers: asyncio.Queue[ShardMessage] = asyncio.Queue()
        merger.say_to(answers.put_nowait)
        self._lines += 1
        background = Background("round")
        tasks = [
            background.run(self._obey(merger, first, line, peer.name), f"obeying {peer.name}"),
            background.run(self._answer(answers, line), f"answering {peer.name}"),
            background.run(self._while_leading(view), f"watching whether {peer.name} leads"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._lines -= 1
            await background.close()

    async def result(self, result: AcceptedResult) -> Stored | None:
        """The result of the shared merge in which this node takes part; None if it does not come this way."""
        merger = self._merger
        if (
            merger is None
            or merger.attempt is None
            or (merger.view.round, merger.view.term) != (result.round, result.term)
        ):
            return None
        try:
            attempt = merger.attempt
            while self._lines and attempt.digest is None and merger.idle_s < merger.stall_s:
                with suppress(TimeoutError):
                    async with asyncio.timeout(merger.stall_s):
                        await attempt.woken()
            if attempt.digest != result.digest:
                _compare(attempt, result)
                return None
            stored = await attempt.until_result()
            return stored if stored is not None and self._place.store.get(result.digest) else None
        finally:
            await self.close()

    async def whole(self, digest: str) -> Stored | None:
        """The result of the shared merge in which this node takes part, once all of it is here; None if it has another
        digest or does not come.
        """
        attempt = self._merger.attempt if self._merger is not None else None
        if attempt is None or attempt.told != digest:
            return None
        await asyncio.wait([attempt.result])
        return None if attempt.result.cancelled() else attempt.result.result()

    @property
    def counted_on(self) -> str | None:
        """Digest of the result that this node has told the leader it holds; it may become that of the round."""
        attempt = self._merger.attempt if self._merger is not None else None
        return attempt.digest if attempt is not None else None

    async def close(self) -> None:
        async with self._changing:
            await self._drop()

    async def _drop(self) -> None:
        merger, self._merger = self._merger, None
        if merger is not None:
            await merger.close()

    async def _merger_for(self, view: View) -> ShardWorker:
        async with self._changing:
            merger = self._merger
            if merger is None or (merger.view.round, merger.view.term) != (view.round, view.term):
                await self._drop()
                merger = self._merger = ShardWorker(self._place, view, lambda _: None)
            return merger

    async def _heard(self, line: web.WebSocketResponse) -> Order:
        """Raises HungUp, Unreadable."""
        frame = await line.receive()
        if frame.type is WSMsgType.TEXT:
            return decode(frame.data, Order)
        if frame.type is WSMsgType.BINARY:
            raise Unreadable("it is no text")
        raise HungUp

    async def _led_by(self, peer: PeerIdentity, order: Order) -> View:
        """The view in which ``peer`` leads the merge that it orders. Raises NotTheLeader, StaleTerm, Unreadable."""
        if not isinstance(order, BeginAttempt):
            raise Unreadable("its first order is not the beginning")
        while True:
            view = self._view()
            leader = view.member(view.leader)
            if (view.round, view.term) > (order.round, order.term):
                raise StaleTerm(round=order.round, given=order.term, current=view.term)
            if (view.round, view.term, view.phase) == (order.round, order.term, RoundState.MERGE):
                if leader is None or not peer.may_act_as(leader.name, *leader.keys):
                    raise NotTheLeader(name=peer.name, term=order.term, round=order.round, leader=view.leader)
                return view
            await self._changed()

    async def _obey(self, merger: ShardWorker, first: Order, line: web.WebSocketResponse, leader: str) -> None:
        """Carries out orders; anything wrong with one ends this connection and nothing else."""
        order = first
        try:
            while True:
                if isinstance(order, BeginAttempt) and (order.round, order.term) != (
                    merger.view.round,
                    merger.view.term,
                ):
                    raise Unreadable("it begins another merge")
                await merger.take(order)
                order = await self._heard(line)
        except HungUp:
            _log.debug("the connection of the leader ended", leader=leader)
        except (SwarmError, Unreadable) as error:
            _log.warning(
                "an order of the leader was not carried out", leader=leader, order=type(order).__name__, why=str(error)
            )
            with suppress(ConnectionError):
                await line.send_str(encode(Declined(words(str(error)))))

    async def _answer(self, answers: asyncio.Queue[ShardMessage], line: web.WebSocketResponse) -> None:
        with suppress(ConnectionError):
            while True:
                await line.send_str(encode(await answers.get()))

    async def _while_leading(self, led: View) -> None:
        """Returns when another node leads. If the result was accepted, this node goes on to complete it."""
        while True:
            view = self._view()
            is_led = (view.round, view.term, view.phase) == (led.round, led.term, RoundState.MERGE)
            if not is_led and view.accepted < led.round:
                return
            await self._changed()


def _compare(attempt: Attempt, result: AcceptedResult) -> None:
    """The accepted result stands, whatever this node holds; logs an error if the mergers had made another one."""
    if attempt.told is None or set(attempt.order.names) != set(result.merged):
        return  # of another attempt, or of one whose end this node has not seen
    _log.error(
        "the accepted result differs from what its mergers made from the same contributions: find out why",
        round=result.round,
        term=result.term,
        leader=result.leader,
        made=attempt.told,
        accepted=result.digest,
    )
