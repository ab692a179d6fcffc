"""Use over time: a chart for each feature, who held seats, who was refused."""

from datetime import UTC, datetime, timedelta

from starlette.responses import Response

from services.license_server.ui.charts import Chart
from services.license_server.ui.page_request import PageRequest
from services.license_server.ui.routing import page
from services.licensing.features import FEATURES

# days -> the label of the choice, and the number of points in a chart
PERIODS = {1: ("24 hours", 288), 7: ("7 days", 336), 30: ("30 days", 360), 90: ("90 days", 360), 365: ("A year", 365)}
DEFAULT_DAYS = 7
SHOWN = 50


def show(request: PageRequest) -> Response:
    services, actor = request.services, request.actor
    days, feature, node = _asked(request)
    since, until = _span(days)
    shown = (feature,) if feature else FEATURES
    charts = {name: Chart.of(services.usage.history(actor, name, since, until, PERIODS[days][1])) for name in shown}
    checkouts = services.usage.checkouts(actor, since, until, feature=feature, node=node, limit=SHOWN + 1)
    return request.render(
        "usage.html",
        charts=charts,
        checkouts=checkouts[:SHOWN],
        more=len(checkouts) > SHOWN,
        denials=services.usage.denials(actor, since, until, feature=feature, limit=SHOWN),
        days=days,
        periods={number: name for number, (name, _) in PERIODS.items()},
        feature=feature,
        node=node,
        features=FEATURES,
    )


def export(request: PageRequest) -> Response:
    days, feature, _ = _asked(request)
    since, until = _span(days)
    lines = "".join(request.services.usage.csv(request.actor, since, until, feature))
    name = f"swarm-usage-{feature.lower() or 'all'}-{since:%Y%m%d}-{until:%Y%m%d}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(lines, media_type="text/csv; charset=utf-8", headers=headers)


def _asked(request: PageRequest) -> tuple[int, str, str]:
    """Days, feature and part of a node's name; invalid values are ignored."""
    days = request.query("days")
    feature = request.query("feature")
    return (
        int(days) if days.isdecimal() and int(days) in PERIODS else DEFAULT_DAYS,
        feature if feature in FEATURES else "",
        request.query("node")[:200],
    )


def _span(days: int) -> tuple[datetime, datetime]:
    until = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    return until - timedelta(days=days), until


ROUTES = [page("/usage", show), page("/usage/export.csv", export)]
