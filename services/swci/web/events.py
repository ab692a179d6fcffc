"""Server-sent events: the newest state after each change, as long as the caller listens."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

from services.errors import SwarmError
from services.swci.execution import error_data
from services.swci.web.status import status

KEEP_ALIVE_S = 15.0  # so that no proxy takes the connection for dead
MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store"}


def described(model: type) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a stream whose events contain this model as JSON."""
    description = (
        f"Events with a {model.__name__} as data and its version as id; after a failure, a last event `error`."
    )
    return {200: {"description": description, "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}}


async def answer(states: AsyncGenerator[Any]) -> StreamingResponse:
    """Raises what the first state raises, so that the request is refused instead of the stream broken off."""
    try:
        first = await anext(states)
    except BaseException:
        await states.aclose()
        raise
    return StreamingResponse(_stream(first, states), media_type=MEDIA_TYPE, headers=HEADERS)


async def _stream(first: Any, states: AsyncGenerator[Any]) -> AsyncIterator[str]:
    yield _event(first)
    following = asyncio.ensure_future(anext(states))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=KEEP_ALIVE_S)
            if not done:
                yield ": still here\n\n"
                continue
            try:
                yield _event(following.result())
            except SwarmError as error:
                yield last_event(error)
                return
            except StopAsyncIteration:
                return
            following = asyncio.ensure_future(anext(states))
    finally:
        following.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await following
        await states.aclose()


def last_event(error: SwarmError) -> str:
    """The event that says why a stream ends."""
    return f"event: error\ndata: {json.dumps({'status': status(error), **error_data(error)})}\n\n"


def _event(state: Any) -> str:
    return f"id: {state.version}\ndata: {json.dumps(dataclasses.asdict(state), ensure_ascii=False)}\n\n"
