"""The audit log, and whether its chain holds."""

from urllib.parse import urlencode

from starlette.responses import Response

from services.license_server.ui.gate import page
from services.license_server.ui.visit import Visit

SHOWN = 50


def show(visit: Visit) -> Response:
    office, actor = visit.office, visit.actor
    search, chosen, before = visit.query("search")[:200], visit.query("action"), visit.query("before")
    older_than = int(before) if before.isascii() and before.isdecimal() and len(before) < 10 else None
    actions = office.audit.actions(actor)
    chosen = chosen if chosen in actions else ""
    entries = office.audit.all(actor, search=search, action=chosen, before=older_than, limit=SHOWN + 1)
    more = len(entries) > SHOWN
    entries = entries[:SHOWN]
    asked = {"search": search, "action": chosen}
    return visit.render(
        "audit.html",
        entries=entries,
        older=urlencode({**asked, "before": entries[-1].seq}) if more else "",
        newest=urlencode(asked),
        is_first_page=older_than is None,
        actions=actions,
        action=chosen,
        search=search,
    )


def show_chain(visit: Visit) -> Response:
    """Apart from the list: it reads every entry."""
    return visit.render("audit_chain.html", verdict=visit.office.audit.verify(visit.actor))


ROUTES = [page("/audit", show), page("/audit/chain", show_chain)]
