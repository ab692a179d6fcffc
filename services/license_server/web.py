"""Serves nodes, administrators' programs and browsers on one port; each part is loaded on its first request."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from services.errors import NotActive, SwarmError
from services.license_server.nodes_api import NodesApi, PairedServer, address_of
from services.license_server.request_limits import RequestLimits, with_headers
from services.license_server.services import Services
from services.runtime import logs
from services.web.answers import error_content, send_json, status_of

_log = logs.get("license-server")

Scope = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Web:
    """The ASGI application over one set of services."""

    def __init__(self, services: Services, partner: PairedServer | None = None) -> None:
        self._services = services
        self._partner = partner
        self._nodes = NodesApi(services, partner)
        self._guards = RequestLimits()
        self._loading = asyncio.Lock()
        self._admin: App | None = None
        self._ui: App | None = None

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path.startswith("/v1/"):
            await self._nodes(scope, receive, send)
            return
        send = with_headers(send, path)
        try:
            self._guards.check(scope)
            await self._public(path)(scope, receive, send)
        except SwarmError as error:
            if _is_for_people(scope):
                await self._ask_ui({**scope, "swarm.refusal": error}, receive, send)
            else:
                await send_json(send, status_of(error), error_content(error, address_of(scope)))

    def _public(self, path: str) -> App:
        if path == "/healthz":
            return self._health
        if not self._services.active and path != "/health" and not path.startswith("/static/"):
            raise NotActive(active=self._partner.name if self._partner else "the other one")
        if path == "/api" or path.startswith("/api/"):
            return self._ask_admin
        return self._ask_ui

    async def _health(self, _scope: Scope, _receive: Any, send: Any) -> None:
        health = await asyncio.to_thread(self._services.health)
        await send_json(send, 200, {"state": health.state})

    async def _ask_admin(self, scope: Scope, receive: Any, send: Any) -> None:
        async with self._loading:
            if self._admin is None:
                self._admin = await asyncio.to_thread(_load_admin, self._services)
        await self._admin(scope, receive, send)

    async def _ask_ui(self, scope: Scope, receive: Any, send: Any) -> None:
        async with self._loading:
            if self._ui is None:
                self._ui = await asyncio.to_thread(_load_ui, self._services)
        await self._ui(scope, receive, send)


def _is_for_people(scope: Scope) -> bool:
    """Whether a browser requests a page or a part of one; it then gets refusals as pages, too."""
    headers = dict(scope["headers"])
    is_browser = b"text/html" in headers.get(b"accept", b"") or b"hx-request" in headers
    return is_browser and scope["path"] != "/healthz" and not scope["path"].startswith("/api")


def _load_admin(services: Services) -> App:
    from services.license_server.admin.app import build_admin  # noqa: PLC0415  # loads FastAPI, on the first request

    app: App = build_admin(services)
    return app


def _load_ui(services: Services) -> App:
    from services.license_server.ui.app import build_ui  # noqa: PLC0415  # loads the templates, on the first request

    app: App = build_ui(services)
    return app
