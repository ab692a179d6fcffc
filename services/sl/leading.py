"""The leader's side of a shared merge: lines to all participants, and the decisions of ``sharing`` carried out."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import aiohttp

from services.errors import PeerUnreachable
from services.merge.layout import Layout
from services.runtime import logs
from services.sl.inputs import Place
from services.sl.mergers import Merger
from services.sl.merging import Outcome
from services.sl.orders import Message, Moves, Unreadable, decode, encode
from services.sl.sharing import Sharing
from services.sl.states import Held
from services.sl.view import View

# Between attempts to reach a participant; the last again and again while it takes part.
LINE_WAITS_S = (0.05, 0.1, 0.2, 0.5, 1.0)

_log = logs.get("round")


class Line:
    """To one participant, opened again where it breaks. ``heard(name, message)``; None: it broke."""

    def __init__(self, place: Place, name: str, heard: Callable[[str, Message | None], object]) -> None:
        self.heard_at = time.monotonic()
        self._place = place
        self._name = name
        self._heard = heard
        self._orders: asyncio.Queue[Message] = asyncio.Queue()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task = asyncio.create_task(self._keep())

    def say(self, message: Message) -> None:
        self._orders.put_nowait(message)

    async def close(self, within_s: float) -> None:
        """What was said is heard first, as far as that takes no longer than ``within_s``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._orders.join()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        attempt = 0
        while True:
            member = self._place.find(self._name)
            if member is not None and member.active and member.host:
                try:
                    async with self._place.peers.line_to(member) as socket:
                        attempt = 0
                        await self._speak(socket)
                except PeerUnreachable as error:
                    _log.info("no line to a participant", to=self._name, why=str(error))
                while not self._orders.empty():  # they were for a line that is gone
                    self._orders.get_nowait()
                    self._orders.task_done()
                self._heard(self._name, None)
            await self._place.pause(LINE_WAITS_S[min(attempt, len(LINE_WAITS_S) - 1)])
            attempt += 1

    async def _speak(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        sending = asyncio.create_task(self._send(socket))
        try:
            async for frame in socket:
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    break
                self.heard_at = time.monotonic()
                self._heard(self._name, decode(frame.data))
        except Unreadable as error:
            _log.warning("a merger says what means nothing", by=self._name, why=str(error))
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


class Leading:
    """``moved(count)``: a sign of life of the merge. ``newest()``: the training as it stands now."""

    def __init__(self, place: Place, view: View, moved: Callable[[int], object], newest: Callable[[], View]) -> None:
        self.merger = Merger(place, view, lambda message: self._events.put_nowait((place.name, message)))
        self._place = place
        self._view = view
        self._moved = moved
        self._newest = newest
        self._events: asyncio.Queue[tuple[str, Message | None]] = asyncio.Queue()
        self._lines: dict[str, Line] = {}

    async def run(self, held: Held | None, layout: Layout) -> Outcome:
        """As ``Merging.run``. Lines and ``merger`` stay open: somebody may still be getting the rest of the result."""
        others = [entry.name for entry in self._view.check_ins if entry.name != self._place.name]
        self._lines = {
            name: Line(self._place, name, lambda name, message: self._events.put_nowait((name, message)))
            for name in others
        }
        sharing = Sharing(self._place.name, self._view, held, layout)
        checking = asyncio.create_task(self._check_silence(sharing))
        try:
            sharing.begin()
            while True:
                await self._carry_out(sharing)
                outcome = sharing.outcome(self._others_there())
                if outcome is not None:
                    return outcome
                name, message = await self._events.get()
                self._hear(sharing, name, message)
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)

    async def close(self, within_s: float) -> None:
        """The lines, once all has been said on them, or ``within_s`` later."""
        await asyncio.gather(*(line.close(within_s) for line in self._lines.values()), return_exceptions=True)

    def _hear(self, sharing: Sharing, name: str, message: Message | None) -> None:
        if self.merger.error is not None:
            raise self.merger.error
        if message is None:
            sharing.lost(name, "its line broke")
            return
        self._moved(message.count if isinstance(message, Moves) else 0)
        sharing.heard(name, message)
        sharing.judge(self.merger.has_all_of)

    async def _carry_out(self, sharing: Sharing) -> None:
        for name, message in sharing.orders():
            if name == self._place.name:
                await self.merger.take(message)
            elif name in self._lines:
                self._lines[name].say(message)

    async def _check_silence(self, sharing: Sharing) -> None:
        """A merger that shows no sign of life loses its segments; one that is slow does not."""
        stall_s = self._place.peers.stall_s
        while True:
            await self._place.pause(stall_s / 4)
            for name, line in self._lines.items():
                if sharing.waits_for(name) and time.monotonic() - line.heard_at >= stall_s:
                    sharing.lost(name, f"no sign of life for {stall_s:g} s")
                    self._events.put_nowait((self._place.name, Moves(0, False)))

    def _others_there(self) -> bool:
        newest = self._newest()
        found = (newest.member(name) for name in self._lines)
        return any(member is not None and member.active for member in found)
