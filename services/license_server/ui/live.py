"""The part of a page that keeps itself current: requested every few seconds, sent only if it has changed."""

import hashlib
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from services.license_server.ui.page_request import PageRequest

EVERY_S = 2

_FRAME = Markup(
    '<div class="live" id="live" data-live hx-get="{address}seen={seen}" hx-trigger="every {every}s" '
    'hx-swap="outerHTML">{inner}</div>'
)


def live(request: PageRequest, template: str, address: str, state: Mapping[str, Any]) -> Markup:
    """``address``: of the refreshed part, ending in '?' or '&'."""
    inner = Markup(request.templates.render(template, page_request=request, **state))  # noqa: S704  # the template escapes
    return _FRAME.format(address=address, seen=_digest(inner), every=EVERY_S, inner=inner)


def refreshed(request: PageRequest, template: str, address: str, state: Mapping[str, Any]) -> Response:
    """An empty answer (204) if the page already shows this state."""
    part = live(request, template, address, state)
    seen = request.query("seen")
    if seen and f'seen={seen}"' in part[:400]:
        return Response(status_code=204)
    return HTMLResponse(part)


def _digest(inner: str) -> str:
    return hashlib.sha256(inner.encode()).hexdigest()[:16]
