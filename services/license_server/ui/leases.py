"""Leases: who holds which seat, and how to revoke one."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args
from urllib.parse import urlencode

from starlette.responses import Response

from services.license_server.lease_admin import Order
from services.license_server.ui import certificates
from services.license_server.ui.live import live, refreshed
from services.license_server.ui.page_request import PageRequest
from services.license_server.ui.pools import whole_number
from services.license_server.ui.routing import action, page
from services.licensing.features import FEATURES

A_MONTH = timedelta(days=30)
DESCENDING_FIRST = ("taken", "renewed")


def show(request: PageRequest) -> Response:
    state = _state(request)
    return request.render("leases.html", live=live(request, "leases_live.html", _address(state), state), **state)


def refresh(request: PageRequest) -> Response:
    state = _state(request)
    return refreshed(request, "leases_live.html", _address(state), state)


def show_one(request: PageRequest) -> Response:
    services, actor = request.services, request.actor
    lease = services.leases.get(actor, request.path("id"))
    until = datetime.now(UTC) + timedelta(minutes=1)
    held = services.usage.checkouts(actor, until - A_MONTH, until, feature=lease.feature, node=lease.node, limit=20)
    return request.render(
        "lease.html",
        lease=lease,
        certificate=certificates.read(lease.certificate),
        before=[one for one in held if one.node == lease.node],
        late_s=services.settings.values().lease_s / 3,
    )


def ask_why(request: PageRequest) -> Response:
    request.actor.require("leases:write")
    return request.render("lease_revoke.html", lease=request.services.leases.get(request.actor, request.path("id")))


def revoke(request: PageRequest) -> Response:
    lease = request.services.leases.revoke(request.actor, request.path("id"), request.text("reason"))
    return request.go("/leases", f"The lease of {lease.node} is revoked: it ends after its round.")


def readmit(request: PageRequest) -> Response:
    request.services.leases.readmit(request.actor, whole_number(request.path("id"), "The revocation"))
    return request.go("/leases", "The node may take a seat again.")


def readmit_expelled(request: PageRequest) -> Response:
    request.services.expulsions.readmit(request.actor, whole_number(request.path("id"), "The expulsion"))
    return request.go("/leases", "The node may take seats again. Its swarm does not take it back.")


def _state(request: PageRequest) -> dict[str, Any]:
    services, actor = request.services, request.actor
    feature = request.query("feature") if request.query("feature") in FEATURES else ""
    search = request.query("search")[:200]
    order = cast(Order, request.query("order") if request.query("order") in get_args(Order) else "taken")
    direction = request.query("direction")
    descending = direction == "down" if direction in {"up", "down"} else order in DESCENDING_FIRST
    asked = {"feature": feature, "search": search, "order": order, "direction": "down" if descending else "up"}

    def sorted_by(column: str) -> str:
        """The address of this list in the order of a column; the same column again turns it round."""
        turned = not descending if column == order else column in DESCENDING_FIRST
        return urlencode({**asked, "order": column, "direction": "down" if turned else "up"})

    return {
        "leases": services.leases.all(actor, feature=feature, search=search, order=order, descending=descending),
        "revocations": services.leases.revocations(actor),
        "expulsions": services.expulsions.all(actor),
        "pools": services.pools.all(actor),
        "features": FEATURES,
        "asked": asked,
        "asked_query": urlencode({name: value for name, value in asked.items() if value}),
        "sorted_by": sorted_by,
        "late_s": services.settings.values().lease_s / 3,
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
    action("/expulsions/{id}/readmit", readmit_expelled),
]
