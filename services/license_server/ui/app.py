"""Puts the pages together; loaded on a browser's first request."""

import contextlib
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from services.errors import AdminError, NoSuchPage, SignInRequired, SwarmError
from services.license_server.services import Services
from services.license_server.ui import (
    account,
    audit,
    dashboard,
    leases,
    licenses,
    pools,
    settings,
    sign_in,
    tokens,
    usage,
    users,
)
from services.license_server.ui.page_request import PageRequest
from services.license_server.ui.rendering import Templates
from services.license_server.ui.routing import page_request_of, refuse

STATIC = Path(__file__).parent / "static"
A_YEAR = "public, max-age=31536000, immutable"

_PARTS = (sign_in, dashboard, licenses, pools, leases, usage, audit, users, tokens, settings, account)


class UI:
    """Shows as a page, too, what the outer application has refused (``swarm.refusal``)."""

    def __init__(self, services: Services) -> None:
        self._app = Starlette(
            routes=[
                *(route for part in _PARTS for route in part.ROUTES),
                Mount("/static", _Static(directory=STATIC)),
            ],
            exception_handlers={HTTPException: _answer_http_error},
        )
        self._app.state.services = services
        self._app.state.templates = Templates(STATIC)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refusal = scope.get("swarm.refusal")
        if refusal is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        page_request = page_request_of(Request(scope, receive))
        await refuse(page_request, refusal)(scope, receive, send)


def build_ui(services: Services) -> UI:
    """The application over one set of services. Pages are made in threads, which may wait for the database."""
    return UI(services)


class _Static(StaticFiles):
    """An address that contains a file's digest never changes its content, so it is cached for a year."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        scope = args[2] if len(args) > 2 else kwargs["scope"]
        response.headers["cache-control"] = A_YEAR if scope.get("query_string", b"").startswith(b"v=") else "no-cache"
        return response


async def _answer_http_error(request: Request, error: Exception) -> Response:
    return await run_in_threadpool(_tell_http_error, page_request_of(request), _as_ours(request, error))


def _tell_http_error(page_request: PageRequest, error: SwarmError) -> Response:
    """The page has the menu if somebody is signed in."""
    with contextlib.suppress(SignInRequired):
        page_request.sign_in_by_cookie(active=True)
    return refuse(page_request, error)


def _as_ours(request: Request, error: Exception) -> SwarmError:
    status = getattr(error, "status_code", 500)
    if status == 404:
        return NoSuchPage(name=request.url.path[:200])
    if status == 405:
        return AdminError(problem="This address is for a form of this site only")
    return AdminError(problem=f"The request cannot be read ({getattr(error, 'detail', '')})")
