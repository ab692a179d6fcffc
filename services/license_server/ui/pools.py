"""The pool of each feature: capacity, allowed nodes, reservations."""

from collections import Counter
from collections.abc import Iterable

from starlette.responses import Response

from services.errors import AdminError, NoSuchThing
from services.license_server.lease_admin import LeaseView
from services.license_server.pools import PoolView
from services.license_server.ui.page_request import PageRequest
from services.license_server.ui.routing import action, page


def show(request: PageRequest) -> Response:
    pools = request.services.pools.all(request.actor)
    return request.render("pools.html", pools=pools, kept=kept_seats(pools, request.services.leases.all(request.actor)))


def ask_whom(request: PageRequest) -> Response:
    request.actor.require("pools:write")
    return request.render("pool_restrict.html", pool=_pool(request))


def restrict(request: PageRequest) -> Response:
    feature = request.path("feature")
    patterns = [line.strip() for line in request.text("patterns").splitlines() if line.strip()]
    request.services.pools.restrict(request.actor, feature, patterns)
    whom = f"serves {len(patterns)} patterns of nodes now" if patterns else "serves every node now"
    return request.go("/pools", f"The pool for {feature} {whom}.")


def ask_what(request: PageRequest) -> Response:
    request.actor.require("pools:write")
    return request.render("pool_reserve.html", pool=_pool(request))


def reserve(request: PageRequest) -> Response:
    feature, clients = request.path("feature"), request.text("clients")
    request.services.pools.reserve(request.actor, feature, clients, whole_number(request.text("seats"), "Seats"))
    return request.go("/pools", f"Seats for {feature} are reserved for {clients}.")


def unreserve(request: PageRequest) -> Response:
    pool = request.services.pools.unreserve(request.actor, whole_number(request.path("id"), "The reservation"))
    return request.go("/pools", f"The seats for {pool.feature} are open to all nodes again.")


def kept_seats(pools: Iterable[PoolView], leases: Iterable[LeaseView]) -> dict[str, int]:
    """By feature: the number of free seats that are reserved, so only some nodes can take them."""
    taken = Counter(lease.feature for lease in leases if lease.reserved)
    return {pool.feature: min(max(pool.reserved - taken[pool.feature], 0), pool.free) for pool in pools}


def whole_number(text: str, what: str) -> int:
    """Raises AdminError."""
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise AdminError(problem=f"{what}: {text[:40]!r} is not a whole number")
    return int(text)


def _pool(request: PageRequest) -> PoolView:
    feature = request.path("feature")
    for pool in request.services.pools.all(request.actor):
        if pool.feature == feature:
            return pool
    raise NoSuchThing(what="pool", name=feature[:40])


ROUTES = [
    page("/pools", show),
    page("/pools/{feature}/restrict", ask_whom),
    action("/pools/{feature}/restrict", restrict),
    page("/pools/{feature}/reserve", ask_what),
    action("/pools/{feature}/reserve", reserve),
    action("/reservations/{id}/remove", unreserve),
]
