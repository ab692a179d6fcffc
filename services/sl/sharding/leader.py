"""The leader's side of a shared merge: connects to all participants and carries out the scheduler's decisions."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import aiohttp

from services.errors import PeerUnreachable
from services.merge.layout import Layout
from services.runtime import logs
from services.runtime.background import Background
from services.sl.round.states import HeldModel
from services.sl.sharding.inputs import MergeContext
from services.sl.sharding.leader_merge import MergeOutcome
from services.sl.sharding.messages import Answer, BeginAttempt, Moves, ShardMessage, Unreadable, decode, encode
from services.sl.sharding.scheduler import ShardScheduler
from services.sl.sharding.worker import ShardWorker
from services.sl.view import View

# Waits between attempts to reach a participant; the last one repeats while it takes part.
LINE_WAITS_S = (0.05, 0.1, 0.2, 0.5, 1.0)

# With this many unprocessed answers of one participant, no more are read from it.
UNHEARD = 256

# No node waits longer than this for a peer, in stall times; see services.sl.sharding.inputs.
WAITS_FOR_STALLS = 3

_log = logs.get("round")


@dataclass(frozen=True)
class Broken:
    """A connection has ended. ``why``: in words. ``for_good``: not to be reopened, as the peer is at fault."""

    why: str
    for_good: bool = False


class MergerLine:
    """The connection to one participant. It is reopened if it breaks, but not after a message that makes no sense.

    ``heard(name, what)`` gets each answer, and Broken; ``looked_at`` is to be called when an answer was processed.
    """

    def __init__(self, place: MergeContext, name: str, heard: Callable[[str, Answer | Broken], object]) -> None:
        self.heard_at = self.moved_at = time.monotonic()
        self._place = place
        self._name = name
        self._heard = heard
        self._room = asyncio.Semaphore(UNHEARD)
        self._unheard = 0
        self._orders: asyncio.Queue[ShardMessage] = asyncio.Queue()
        self._begun = self._over = False
        self._background = Background("round")
        self._task = self._background.run(self._keep(), f"the line to {name}", self._failed)

    def say(self, message: ShardMessage) -> None:
        """Queues a message. At first and after a break, drops all before BeginAttempt, as the peer has no state."""
        self._begun |= isinstance(message, BeginAttempt)
        if self._begun and not self._over:
            self._orders.put_nowait(message)

    @property
    def unheard(self) -> int:
        """Answers that are not processed yet."""
        return self._unheard

    def looked_at(self) -> None:
        self._unheard -= 1
        self._room.release()

    def end(self) -> None:
        """Ends the connection for good."""
        self._over = True
        self._forget_orders()
        self._task.cancel()

    async def close(self, within_s: float) -> None:
        """Sends what is queued, for at most ``within_s``, then closes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._orders.join()
        await self._background.close()

    async def _keep(self) -> None:
        attempt = 0
        while not self._over:
            member = self._place.find(self._name)
            if member is not None and member.active and member.host:
                try:
                    async with self._place.peers.line_to(member) as socket:
                        attempt = 0
                        await self._speak(socket)
                except PeerUnreachable as error:
                    _log.info("no connection to a participant", to=self._name, why=str(error))
                if not self._over:
                    self._broke("its line broke")
            await asyncio.sleep(LINE_WAITS_S[min(attempt, len(LINE_WAITS_S) - 1)])
            attempt += 1

    async def _speak(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        sending = self._background.run(self._send(socket), f"giving orders to {self._name}", self._failed)
        try:
            async for frame in socket:
                answer = decode(_text_of(frame), Answer)
                self.heard_at = time.monotonic()
                if not isinstance(answer, Moves) or answer.count:
                    self.moved_at = self.heard_at
                await self._room.acquire()
                self._unheard += 1
                self._heard(self._name, answer)
        except Unreadable as error:
            self._over = True
            self._broke(f"it sent a message that makes no sense: {error}")
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        with suppress(ConnectionError):  # the reader notices
            while True:
                message = await self._orders.get()
                try:
                    await socket.send_str(encode(message))
                finally:
                    self._orders.task_done()

    def _failed(self, error: Exception) -> None:
        """An unexpected error ends this participant's connection, like any other fault of it."""
        self.end()
        self._broke(f"its line cannot be used ({type(error).__name__})")

    def _broke(self, why: str) -> None:
        self._forget_orders()
        self._heard(self._name, Broken(why, self._over))

    def _forget_orders(self) -> None:
        """Drops orders for a connection that is gone."""
        self._begun = False
        while not self._orders.empty():
            self._orders.get_nowait()
            self._orders.task_done()


class ShardLeader:
    """``moved(count)``: reports progress of the merge. ``newest()``: the newest view of the training."""

    def __init__(
        self, place: MergeContext, view: View, moved: Callable[[int], object], newest: Callable[[], View]
    ) -> None:
        self.merger = ShardWorker(place, view, lambda message: self._events.put_nowait((place.name, message)))
        self._place = place
        self._view = view
        self._moved = moved
        self._newest = newest
        self._events: asyncio.Queue[tuple[str, ShardMessage | Broken]] = asyncio.Queue()
        self._lines: dict[str, MergerLine] = {}

    async def run(self, held: HeldModel | None, layout: Layout) -> MergeOutcome:
        """Like ``LeaderMerge.run``. Connections and ``merger`` stay open: others may still be fetching the rest."""
        others = [entry.name for entry in self._view.check_ins if entry.name != self._place.name]
        self._lines = {
            name: MergerLine(self._place, name, lambda name, what: self._events.put_nowait((name, what)))
            for name in others
        }
        sharing = ShardScheduler(self._place.name, self._view, held, layout)
        background = Background("round")
        background.run(self._check_silence(sharing), "looking for signs of life", self.merger.failed)
        try:
            sharing.begin()
            while True:
                await self._carry_out(sharing)
                outcome = sharing.outcome(self._there())
                if outcome is not None:
                    return outcome
                name, what = await self._events.get()
                self._hear(sharing, name, what)
        finally:
            await background.close()

    async def close(self, within_s: float) -> None:
        """Closes the connections once all messages are sent, or ``within_s`` later."""
        await asyncio.gather(*(line.close(within_s) for line in self._lines.values()), return_exceptions=True)

    def _hear(self, sharing: ShardScheduler, name: str, what: ShardMessage | Broken) -> None:
        """Processes a message. A fault in it costs that peer its connection and share, and no other node anything."""
        if self.merger.error is not None:
            raise self.merger.error
        if isinstance(what, Broken):
            (sharing.cut_off if what.for_good else sharing.lost)(name, what.why)
            return
        self._moved(what.count if isinstance(what, Moves) else 0)
        line = self._lines.get(name)
        if line is None:
            sharing.heard(name, what)
            return
        line.looked_at()
        try:
            sharing.heard(name, what)
        except Unreadable as error:
            line.end()
            sharing.cut_off(name, f"it sent a message that makes no sense: {error}")
        except Exception:
            _log.exception("an answer could not be processed", by=name, kind=type(what).__name__)
            line.end()
            sharing.cut_off(name, f"its message cannot be taken ({type(what).__name__})")

    async def _carry_out(self, sharing: ShardScheduler) -> None:
        for name, message in sharing.orders():
            if name == self._place.name:
                await self.merger.take(message)
            elif name in self._lines:
                self._lines[name].say(message)

    async def _check_silence(self, sharing: ShardScheduler) -> None:
        """Takes segments away from a merger without a sign of life; a slow one keeps them."""
        stall_s = self._place.peers.stall_s
        while True:
            await asyncio.sleep(stall_s / 4)
            for name, line in self._lines.items():
                if not sharing.waits_for(name):
                    continue
                now = time.monotonic()
                if now - line.heard_at >= stall_s:
                    sharing.lost(name, f"no sign of life for {stall_s:g} s")
                elif now - line.moved_at >= WAITS_FOR_STALLS * stall_s:
                    sharing.lost(name, f"it has only waited for {WAITS_FOR_STALLS * stall_s:g} s")
                else:
                    continue
                self._events.put_nowait((self._place.name, Moves(0, False)))

    def _there(self) -> list[str]:
        """The other participants that have not left."""
        newest = self._newest()
        found = ((name, newest.member(name)) for name in self._lines)
        return [name for name, member in found if member is not None and member.active]


def _text_of(frame: aiohttp.WSMessage) -> str:
    """The text of a message. Raises Unreadable; ConnectionError if the peer is not at fault."""
    if frame.type is aiohttp.WSMsgType.TEXT:
        return str(frame.data)
    if frame.type is aiohttp.WSMsgType.ERROR and not isinstance(frame.data, aiohttp.WebSocketError):
        raise ConnectionResetError(str(frame.data))
    raise Unreadable(f"it is no text ({frame.type.name})")
