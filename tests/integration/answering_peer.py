"""A peer with a fake file server, which answers as a test says."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from services.sl.transfer.file_server import bind
from services.sl.view import TrainingMember

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def answering(pki: Any, answer: Answer) -> AsyncIterator[TrainingMember]:
    """sl-1, whose file server answers by ``answer``."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    with bind("127.0.0.1", 0) as bound:
        await web.SockSite(runner, bound, ssl_context=pki.identity("sl", "sl-1").server_context()).start()
        try:
            yield TrainingMember("sl-1", "localhost", bound.getsockname()[1], "", active=True)
        finally:
            await runner.cleanup()
