"""Puts the REST API together: /exec and /uploadTaskDef as older clients know them, /api/v1 with types."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from services.errors import BodyTooLarge, CommandError, SwarmError
from services.runtime import logs
from services.swci.web import commands, contexts, contracts, taskrunners, tasks
from services.swci.web.ending import App, Ending
from services.swci.web.sessions import Sessions
from services.swci.web.status import status
from services.web.answers import ErrorAnswer, error_content, send_json, status_of

API = "/api/v1"
MAX_BODY = 2 << 20

_ERRORS = {
    400: "The command cannot be carried out.",
    401: "The client certificate is missing or names no node.",
    403: "The certificate's role does not allow it.",
    404: "Not found.",
    409: "The command conflicts with the current state.",
    413: "The request is too large.",
    422: "The request is malformed.",
    424: "The SN does not answer, or runs another version.",
    503: "This SWCI is stopping.",
    504: "The awaited event did not occur in time.",
}

Scope = MutableMapping[str, Any]

_log = logs.get("swci")


def build(sessions: Sessions, stopping: asyncio.Event) -> App:
    app = FastAPI(
        title="SWCI",
        version="1",
        description="Commands for a swarm. Authenticate with the client certificate of an SWCI or an administrator.",
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        redirect_slashes=False,
        responses={status: {"model": ErrorAnswer, "description": why} for status, why in _ERRORS.items()},
    )
    app.state.sessions = sessions
    app.exception_handler(SwarmError)(_answer_swarm_error)
    app.exception_handler(RequestValidationError)(_answer_malformed)
    app.exception_handler(HTTPException)(_answer_http_error)
    app.include_router(commands.router)
    for router in (commands.typed, contexts.router, contracts.router, tasks.router, taskrunners.router):
        app.include_router(router, prefix=API)
    return _Bounded(Ending(app, stopping))


class _Bounded:
    """Refuses a body that is too large before it is read."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            length = headers.get(b"content-length", b"0")
            if b"transfer-encoding" in headers or not length.isdigit() or int(length) > MAX_BODY:
                error = BodyTooLarge(limit=MAX_BODY)  # also if it does not declare its length
                await send_json(send, status_of(error), error_content(error, ""))
                return
        await self._app(scope, receive, send)


def _answer_swarm_error(request: Request, error: SwarmError) -> JSONResponse:
    _log.warning("refused", path=request.url.path, code=error.code, why=str(error))
    return JSONResponse(error_content(error, request.url.netloc), status(error))


def _answer_malformed(request: Request, malformed: RequestValidationError) -> JSONResponse:
    first = malformed.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    error = CommandError(problem=f"{where}: {first['msg']}", usage=f"it as {API}/openapi.json describes it")
    return JSONResponse(error_content(error, request.url.netloc), 422)


def _answer_http_error(request: Request, error: HTTPException) -> JSONResponse:
    described = CommandError(problem=str(error.detail), usage=f"it as {API}/openapi.json describes it")
    return JSONResponse(error_content(described, request.url.netloc), error.status_code, error.headers)
