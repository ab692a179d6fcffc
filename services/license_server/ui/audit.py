"""The audit log, and whether its chain of hashes is intact."""

from urllib.parse import urlencode

from starlette.responses import Response

from services.license_server.ui.page_request import PageRequest
from services.license_server.ui.routing import page

SHOWN = 50


def show(request: PageRequest) -> Response:
    services, actor = request.services, request.actor
    search, chosen, before = (
        request.query("search")[:200],
        request.query("action"),
        request.query("before"),
    )
    older_than = int(before) if before.isascii() and before.isdecimal() and len(before) < 10 else None
    actions = services.audit.actions(actor)
    chosen = chosen if chosen in actions else ""
    entries = services.audit.all(actor, search=search, action=chosen, before=older_than, limit=SHOWN + 1)
    more = len(entries) > SHOWN
    entries = entries[:SHOWN]
    asked = {"search": search, "action": chosen}
    return request.render(
        "audit.html",
        entries=entries,
        older=urlencode({**asked, "before": entries[-1].seq}) if more else "",
        newest=urlencode(asked),
        is_first_page=older_than is None,
        actions=actions,
        action=chosen,
        search=search,
    )


def show_chain(request: PageRequest) -> Response:
    """Separate from the list, as it reads every entry."""
    return request.render("audit_chain.html", verdict=request.services.audit.verify(request.actor))


ROUTES = [page("/audit", show), page("/audit/chain", show_chain)]
