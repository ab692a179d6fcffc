"""How many seats were used when and by whom, and who was refused."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, or_, select, update

from services.errors import AdminError, SwarmError
from services.license_server.actor import Actor
from services.license_server.database import Database, Transaction
from services.license_server.leases import LeaseHolder
from services.license_server.pools import views
from services.license_server.rows import read_as, utc
from services.license_server.schema import checkouts, denials, usage_samples
from services.license_server.server_settings import read_values
from services.license_server.webhooks import queue
from services.licensing.features import FEATURES

SAMPLE_EVERY_S = 60.0
MAX_POINTS = 2_000
SAME_DENIAL_S = 60.0
DAY_S = 86_400.0


@dataclass(frozen=True)
class UsagePoint:
    """Peak number of seats in use, and number of denials, from ``at`` to the next point."""

    at: datetime
    used: int
    capacity: int
    denied: int


@dataclass(frozen=True)
class Checkout:
    lease: str
    feature: str
    node: str
    fingerprint: str
    taken_at: datetime
    ended_at: datetime | None
    how: str | None  # released, stale, revoked; None: it is held


@dataclass(frozen=True)
class Denial:
    feature: str
    node: str
    fingerprint: str
    address: str
    code: str
    message: str
    count: int
    at: datetime
    last_at: datetime


class Usage:
    def __init__(self, database: Database) -> None:
        self._database = database

    def history(
        self, actor: Actor, feature: str, since: datetime, until: datetime, points: int = 240
    ) -> list[UsagePoint]:
        """Evenly spaced points for a chart, oldest first; each value holds until the next point."""
        actor.require("usage:read")
        begin, end = since.timestamp(), until.timestamp()
        if not 1 <= points <= MAX_POINTS or end <= begin:
            raise AdminError(problem=f"A history has 1 to {MAX_POINTS} points, and ends after it begins")
        with self._database.read() as transaction:
            return _series(transaction, feature, begin, end, points)

    def checkouts(
        self, actor: Actor, since: datetime, until: datetime, *, feature: str = "", node: str = "", limit: int = 500
    ) -> list[Checkout]:
        """Seats held at any time between ``since`` and ``until``, newest first."""
        actor.require("usage:read")
        statement = (
            select(checkouts)
            .where(checkouts.c.taken_at < until.timestamp())
            .where(or_(checkouts.c.ended_at.is_(None), checkouts.c.ended_at >= since.timestamp()))
            .order_by(checkouts.c.taken_at.desc(), checkouts.c.id.desc())
            .limit(limit)
        )
        if feature:
            statement = statement.where(checkouts.c.feature == feature)
        if node:
            statement = statement.where(checkouts.c.node.icontains(node, autoescape=True))
        with self._database.read() as transaction:
            return [read_as(Checkout, row) for row in transaction.rows(statement)]

    def denials(
        self, actor: Actor, since: datetime, until: datetime, *, feature: str = "", limit: int = 500
    ) -> list[Denial]:
        """Denials, newest first. Repeats within a minute are counted in one entry."""
        actor.require("usage:read")
        statement = (
            select(denials)
            .where(denials.c.last_at >= since.timestamp(), denials.c.at < until.timestamp())
            .order_by(denials.c.last_at.desc())
            .limit(limit)
        )
        if feature:
            statement = statement.where(denials.c.feature == feature)
        with self._database.read() as transaction:
            return [read_as(Denial, row) for row in transaction.rows(statement)]

    def csv(self, actor: Actor, since: datetime, until: datetime, feature: str = "") -> Iterator[str]:
        """Lines of a CSV file of the checkouts, oldest first."""
        actor.require("usage:read")
        rows = self.checkouts(actor, since, until, feature=feature, limit=1_000_000)
        yield _csv_line(["feature", "node", "fingerprint", "taken_at", "ended_at", "how", "seconds"])
        for row in reversed(rows):
            seconds = (row.ended_at or until) - row.taken_at
            ended = row.ended_at.isoformat() if row.ended_at else ""
            yield _csv_line(
                [
                    row.feature,
                    row.node,
                    row.fingerprint,
                    row.taken_at.isoformat(),
                    ended,
                    row.how or "held",
                    f"{max(seconds.total_seconds(), 0):.0f}",
                ]
            )

    def sample(self) -> None:
        """To be called once a minute: notes use if it changed, and once an hour; deletes old history."""
        with self._database.write() as transaction:
            for view in views(transaction):
                _note(transaction, view.feature, view.used, view.capacity)
            oldest = transaction.wall - read_values(transaction).keep_days * DAY_S
            connection = transaction.connection
            connection.execute(delete(usage_samples).where(usage_samples.c.at < oldest))
            connection.execute(delete(checkouts).where(checkouts.c.ended_at < oldest))
            connection.execute(delete(denials).where(denials.c.last_at < oldest))


def note_denial(transaction: Transaction, holder: LeaseHolder, feature: str, refusal: SwarmError) -> None:
    """Counts a repeat within a minute instead of adding a row: a node that keeps trying must not fill the disk."""
    feature = feature if feature in FEATURES else "?"
    same = (
        select(denials.c.id)
        .where(denials.c.fingerprint == holder.fingerprint, denials.c.feature == feature)
        .where(denials.c.code == refusal.code, denials.c.last_at > transaction.wall - SAME_DENIAL_S)
        .limit(1)
    )
    found = transaction.connection.scalar(same)
    if found is not None:
        again = {"count": denials.c.count + 1, "last_at": transaction.wall}
        transaction.connection.execute(update(denials).where(denials.c.id == found).values(again))
        return
    told = {"feature": feature, "node": holder.name, "code": refusal.code, "address": holder.address}
    queue(transaction, "denial", told)
    transaction.write(
        insert(denials).values(
            feature=feature,
            node=holder.name,
            fingerprint=holder.fingerprint,
            address=holder.address,
            code=refusal.code,
            message=str(type(refusal)(**{"address": "this server", **refusal.facts}))[:1_000],
            count=1,
            at=transaction.wall,
            last_at=transaction.wall,
        )
    )


def _note(transaction: Transaction, feature: str, used: int, capacity: int) -> None:
    last = transaction.row(
        select(usage_samples).where(usage_samples.c.feature == feature).order_by(usage_samples.c.at.desc()).limit(1)
    )
    now = transaction.wall
    if last and (last["used"], last["capacity"]) == (used, capacity) and now - last["at"] < 3600:
        return
    if last and last["at"] >= now:
        return
    transaction.write(insert(usage_samples).values(feature=feature, at=now, used=used, capacity=capacity))


def _series(transaction: Transaction, feature: str, begin: float, end: float, points: int) -> list[UsagePoint]:
    """Seats in use come exactly from the checkouts, capacity from the samples."""
    step = (end - begin) / points
    mine = checkouts.c.feature == feature
    changes: list[tuple[float, int]] = []
    for taken_at, ended_at in transaction.connection.execute(
        select(checkouts.c.taken_at, checkouts.c.ended_at)
        .where(mine, checkouts.c.taken_at < end)
        .where(or_(checkouts.c.ended_at.is_(None), checkouts.c.ended_at >= begin))
    ):
        changes.append((taken_at, 1))
        if ended_at is not None and ended_at < end:
            changes.append((ended_at, -1))
    changes.sort()
    samples = usage_samples.c
    known = [
        (at, capacity)
        for at, capacity in transaction.connection.execute(
            select(samples.at, samples.capacity)
            .where(samples.feature == feature, samples.at < end)
            .order_by(samples.at)
        )
    ]
    current = {view.feature: view.capacity for view in views(transaction)}.get(feature, 0)
    refused: dict[int, int] = {}
    for at, count in transaction.connection.execute(
        select(denials.c.at, denials.c.count).where(denials.c.feature == feature, denials.c.at >= begin)
    ):
        place = int((at - begin) / step)
        refused[place] = refused.get(place, 0) + count
    return _points(begin, step, points, changes, known, current, refused)


def _points(  # noqa: PLR0917  # where the points are, and what happened
    begin: float,
    step: float,
    points: int,
    changes: list[tuple[float, int]],
    known: list[tuple[float, int]],
    current: int,
    refused: Mapping[int, int],
) -> list[UsagePoint]:
    found: list[UsagePoint] = []
    ahead, later = iter([*changes, (float("inf"), 0)]), iter([*known, (float("inf"), 0)])
    change, sample = next(ahead), next(later)
    used, capacity = 0, known[0][1] if known else current
    for number in range(points):
        at = begin + number * step
        while change[0] < at:  # before the first point only
            used += change[1]
            change = next(ahead)
        most = used
        while change[0] < at + step:
            used += change[1]
            most = max(most, used)
            change = next(ahead)
        while sample[0] < at + step:
            capacity = sample[1]
            sample = next(later)
        found.append(UsagePoint(utc(at), most, capacity, refused.get(number, 0)))
    return found


def _csv_line(fields: list[str]) -> str:
    """A CSV line. Fields that a spreadsheet would take for formulas get an apostrophe in front."""
    safe = [f"'{field}" if field.startswith(("=", "+", "-", "@", "\t", "\r")) else field for field in fields]
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(safe)
    return line.getvalue()
