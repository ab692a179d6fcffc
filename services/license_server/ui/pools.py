"""The pool of each feature: capacity, whom it serves, what is reserved."""

from collections import Counter
from collections.abc import Iterable

from starlette.responses import Response

from services.errors import AdminError, NoSuchThing
from services.license_server.lease_book import LeaseView
from services.license_server.pools import PoolView
from services.license_server.ui.gate import action, page
from services.license_server.ui.visit import Visit


def show(visit: Visit) -> Response:
    pools = visit.office.pools.all(visit.actor)
    return visit.render("pools.html", pools=pools, kept=kept_seats(pools, visit.office.leases.all(visit.actor)))


def ask_whom(visit: Visit) -> Response:
    visit.actor.require("pools:write")
    return visit.render("pool_restrict.html", pool=_pool(visit))


def restrict(visit: Visit) -> Response:
    feature = visit.path("feature")
    patterns = [line.strip() for line in visit.text("patterns").splitlines() if line.strip()]
    visit.office.pools.restrict(visit.actor, feature, patterns)
    whom = f"serves {len(patterns)} patterns of nodes now" if patterns else "serves every node now"
    return visit.go("/pools", f"The pool for {feature} {whom}.")


def ask_what(visit: Visit) -> Response:
    visit.actor.require("pools:write")
    return visit.render("pool_reserve.html", pool=_pool(visit))


def reserve(visit: Visit) -> Response:
    feature, clients = visit.path("feature"), visit.text("clients")
    visit.office.pools.reserve(visit.actor, feature, clients, whole_number(visit.text("seats"), "Seats"))
    return visit.go("/pools", f"Seats for {feature} are reserved for {clients}.")


def unreserve(visit: Visit) -> Response:
    pool = visit.office.pools.unreserve(visit.actor, whole_number(visit.path("id"), "The reservation"))
    return visit.go("/pools", f"The seats for {pool.feature} are open to all nodes again.")


def kept_seats(pools: Iterable[PoolView], leases: Iterable[LeaseView]) -> dict[str, int]:
    """By feature: the seats that are free, but for those alone for whom they are reserved."""
    taken = Counter(lease.feature for lease in leases if lease.reserved)
    return {pool.feature: min(max(pool.reserved - taken[pool.feature], 0), pool.free) for pool in pools}


def whole_number(text: str, what: str) -> int:
    """Raises AdminError."""
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise AdminError(problem=f"{what}: {text[:40]!r} is not a whole number")
    return int(text)


def _pool(visit: Visit) -> PoolView:
    feature = visit.path("feature")
    for pool in visit.office.pools.all(visit.actor):
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
