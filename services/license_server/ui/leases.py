"""Leases: who holds which seat, and taking one away."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args
from urllib.parse import urlencode

from starlette.responses import Response

from services.license_server.lease_book import Order
from services.license_server.ui import certificates
from services.license_server.ui.gate import action, page
from services.license_server.ui.live import live, refreshed
from services.license_server.ui.pools import whole_number
from services.license_server.ui.visit import Visit
from services.licensing.features import FEATURES

A_MONTH = timedelta(days=30)
DESCENDING_FIRST = ("taken", "renewed")


def show(visit: Visit) -> Response:
    state = _state(visit)
    return visit.render("leases.html", live=live(visit, "leases_live.html", _address(state), state), **state)


def refresh(visit: Visit) -> Response:
    state = _state(visit)
    return refreshed(visit, "leases_live.html", _address(state), state)


def show_one(visit: Visit) -> Response:
    office, actor = visit.office, visit.actor
    lease = office.leases.get(actor, visit.path("id"))
    until = datetime.now(UTC) + timedelta(minutes=1)
    held = office.usage.checkouts(actor, until - A_MONTH, until, feature=lease.feature, node=lease.node, limit=20)
    return visit.render(
        "lease.html",
        lease=lease,
        certificate=certificates.read(lease.certificate),
        before=[one for one in held if one.node == lease.node],
        late_s=office.settings.values().lease_s / 3,
    )


def ask_why(visit: Visit) -> Response:
    visit.actor.require("leases:write")
    return visit.render("lease_revoke.html", lease=visit.office.leases.get(visit.actor, visit.path("id")))


def revoke(visit: Visit) -> Response:
    lease = visit.office.leases.revoke(visit.actor, visit.path("id"), visit.text("reason"))
    return visit.go("/leases", f"The lease of {lease.node} is revoked: it ends after its round.")


def readmit(visit: Visit) -> Response:
    visit.office.leases.readmit(visit.actor, whole_number(visit.path("id"), "The revocation"))
    return visit.go("/leases", "The node may take a seat again.")


def _state(visit: Visit) -> dict[str, Any]:
    office, actor = visit.office, visit.actor
    feature = visit.query("feature") if visit.query("feature") in FEATURES else ""
    search = visit.query("search")[:200]
    order = cast(Order, visit.query("order") if visit.query("order") in get_args(Order) else "taken")
    direction = visit.query("direction")
    descending = direction == "down" if direction in {"up", "down"} else order in DESCENDING_FIRST
    asked = {"feature": feature, "search": search, "order": order, "direction": "down" if descending else "up"}

    def sorted_by(column: str) -> str:
        """The address of this list in the order of a column; the same column again turns it round."""
        turned = not descending if column == order else column in DESCENDING_FIRST
        return urlencode({**asked, "order": column, "direction": "down" if turned else "up"})

    return {
        "leases": office.leases.all(actor, feature=feature, search=search, order=order, descending=descending),
        "revocations": office.leases.revocations(actor),
        "pools": office.pools.all(actor),
        "features": FEATURES,
        "asked": asked,
        "asked_query": urlencode({name: value for name, value in asked.items() if value}),
        "sorted_by": sorted_by,
        "late_s": office.settings.values().lease_s / 3,
    }


def _address(state: dict[str, Any]) -> str:
    return f"/leases/live?{state['asked_query']}&"


ROUTES = [
    page("/leases", show),
    page("/leases/live", refresh, refreshes=True),
    page("/leases/{id}", show_one),
    page("/leases/{id}/revoke", ask_why),
    action("/leases/{id}/revoke", revoke),
    action("/revocations/{id}/readmit", readmit),
]
