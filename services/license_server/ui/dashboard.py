"""The overview: seats, who holds them, and what needs attention."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from starlette.responses import Response

from services.license_server.licenses import InstalledLicense
from services.license_server.pools import PoolView
from services.license_server.ui.charts import Chart
from services.license_server.ui.live import live, refreshed
from services.license_server.ui.page_request import PageRequest
from services.license_server.ui.pools import kept_seats
from services.license_server.ui.routing import page

SHOWN_LEASES = 10
SPARK_POINTS = 96
ADDRESS = "/dashboard/live?"
A_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Matter:
    """Something that needs attention; ``link`` leads to the page to settle it."""

    kind: Literal["bad", "warn", "info"]
    text: str
    link: str
    doing: str


def show(request: PageRequest) -> Response:
    return request.render("dashboard.html", live=live(request, "dashboard_live.html", ADDRESS, _state(request)))


def refresh(request: PageRequest) -> Response:
    return refreshed(request, "dashboard_live.html", ADDRESS, _state(request))


def _state(request: PageRequest) -> dict[str, Any]:
    services, actor = request.services, request.actor
    until = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    pools, licenses = services.pools.all(actor), services.licenses.all(actor)
    charts = {
        pool.feature: Chart.of(
            services.usage.history(actor, pool.feature, until - A_DAY, until, SPARK_POINTS), to_peak=True
        )
        for pool in pools
    }
    leases = services.leases.all(actor, order="taken")
    return {
        "pools": pools,
        "charts": charts,
        "leases": leases[:SHOWN_LEASES],
        "held": len(leases),
        "kept": kept_seats(pools, leases),
        "late_s": services.settings.values().lease_s / 3,
        "matters": _matters(request, pools, licenses),
    }


def _matters(request: PageRequest, pools: list[PoolView], licenses: list[InstalledLicense]) -> list[Matter]:
    found = [*_about_licenses(licenses), *_about_pools(pools)]
    until = datetime.now(UTC) + timedelta(minutes=1)
    denied = sum(denial.count for denial in request.services.usage.denials(request.actor, until - A_DAY, until))
    if denied:
        words = "1 request for a seat was" if denied == 1 else f"{denied:,} requests for a seat were"
        found.append(Matter("warn", f"{words} refused in the last 24 hours.", "/usage?days=1#denials", "See why"))
    turned_back = request.services.health().clock_turned_back_s
    if turned_back > 1:
        text = f"The clock of this host was turned back by {turned_back:.0f} s; dates count from the latest time seen."
        found.append(Matter("warn", text, "/settings#clock", "Look at it"))
    certificate = request.services.tls.current()
    if certificate.state != "valid":
        kind: Literal["bad", "warn"] = "bad" if certificate.state == "expired" else "warn"
        word = "has expired" if certificate.state == "expired" else f"ends on {certificate.valid_until:%Y-%m-%d}"
        found.append(Matter(kind, f"The TLS certificate of this server {word}.", "/settings#tls", "Replace it"))
    return found


def _about_licenses(licenses: list[InstalledLicense]) -> list[Matter]:
    if not licenses:
        return [Matter("bad", "No license is installed: no node can start.", "/licenses/install", "Install one")]
    found = []
    for license in licenses:
        link = f"/licenses/{license.id}"
        if license.signature == "untrusted":
            text = f"License {license.id} gives no seats: the key of its issuer is not trusted any more."
            found.append(Matter("bad", text, link, "Look at it"))
            continue
        for state, kind, word in (("expired", "bad", "expired"), ("expiring", "warn", "ends")):
            ends = sorted({grant.valid_until for grant in license.grants if grant.state == state and grant.valid_until})
            if ends:
                features = ", ".join(grant.feature for grant in license.grants if grant.state == state)
                text = f"License {license.id} {word} on {ends[0]:%Y-%m-%d} ({features})."
                found.append(Matter("bad" if kind == "bad" else "warn", text, link, "Look at it"))
    return found


def _about_pools(pools: list[PoolView]) -> list[Matter]:
    found = []
    for pool in pools:
        link = f"/leases?feature={pool.feature}"
        if pool.used > pool.capacity:
            text = f"{pool.used} {pool.feature} nodes hold a seat, {pool.capacity} are licensed."
            found.append(Matter("bad", text, link, "See who"))
        elif pool.capacity and not pool.free:
            found.append(Matter("warn", f"Every {pool.feature} seat is in use.", link, "See who"))
    return found


ROUTES = [page("/", show), page("/dashboard/live", refresh, refreshes=True)]
