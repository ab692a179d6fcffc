"""When the server ends, open requests and streams are told so instead of being broken off."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from services.errors import SwciStopping
from services.swci.web.events import last_event
from services.swci.web.status import status
from services.web.answers import error_content, send_json

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Ending:
    """As soon as ``stopping`` is set, streams end with an event that says why. Requests that the server cancels after
    its grace period are answered with an error.
    """

    def __init__(self, app: App, stopping: asyncio.Event) -> None:
        self._app, self._stopping = app, stopping

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        exchange = _Exchange(receive, send, self._stopping)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            if exchange.started:
                raise
            error = SwciStopping()
            await send_json(send, status(error), error_content(error, ""))
        if exchange.started and not exchange.complete:
            await send({"type": "http.response.body", "body": last_event(SwciStopping()).encode()})


class _Exchange:
    """``started``: the status has been sent; ``complete``: so has everything."""

    def __init__(self, receive: Receive, send: Send, stopping: asyncio.Event) -> None:
        self._receive, self._send, self._stopping = receive, send, stopping
        self.started = self.complete = False

    async def send(self, message: Message) -> None:
        self.started = True
        self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def receive(self) -> Message:
        """Tells a stream that its listener has disconnected when the server ends."""
        receiving, stopping = asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({receiving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done() or not self.started:
                return await receiving
            return {"type": "http.disconnect"}
        finally:
            receiving.cancel()
            stopping.cancel()
