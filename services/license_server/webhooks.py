"""Notifies another program of denials, expiries and revocations. Queued in the event's own transaction, retried until
accepted.

A delivery is a POST of JSON with ``X-Swarm-Signature: sha256=<HMAC of the body with the secret>``.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, update

from services.license_server.actor import Actor
from services.license_server.audit_log import record
from services.license_server.database import Database, Transaction
from services.license_server.rows import read_as, utc
from services.license_server.schema import grants, settings, webhook_deliveries
from services.license_server.server_settings import Values, read_values

MAX_ATTEMPTS = 8
FIRST_RETRY_S = 20.0
KEEP_S = 7 * 86_400.0
POST_TIMEOUT_S = 10.0

# (address, body, headers) -> '' if it was accepted, else what was wrong
Post = Callable[[str, bytes, Mapping[str, str]], str]


@dataclass(frozen=True)
class Delivery:
    id: int
    event: str
    created_at: datetime
    attempts: int
    delivered_at: datetime | None
    problem: str | None


class Webhooks:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, actor: Actor, limit: int = 50) -> list[Delivery]:
        """Newest first."""
        actor.require("settings:read")
        statement = select(webhook_deliveries).order_by(webhook_deliveries.c.id.desc()).limit(limit)
        with self._database.read() as transaction:
            return [read_as(Delivery, row) for row in transaction.rows(statement)]

    def test(self, actor: Actor) -> None:
        """Queues a test delivery."""
        actor.require("settings:write")
        with self._database.write() as transaction:
            queue(transaction, "test", {"by": actor.name})
            record(transaction, actor, "webhook tested")

    def deliver_due(self, post: Post) -> int:
        """Tries each due delivery once; returns how many were due. No transaction is open while ``post`` waits for the
        network.
        """
        with self._database.read() as transaction:
            values = read_values(transaction)
            table = webhook_deliveries.c
            open_ = table.delivered_at.is_(None) & (table.due_at <= transaction.wall) & (table.attempts < MAX_ATTEMPTS)
            due = transaction.rows(select(webhook_deliveries).where(open_).order_by(table.id).limit(20))
        for row in due:
            body = row["payload"].encode()
            problem = post(values.webhook_url, body, _headers(values, body)) if values.webhook_url else "no address"
            with self._database.write() as transaction:
                attempts = row["attempts"] + 1
                result = {
                    "attempts": attempts,
                    "delivered_at": None if problem else transaction.wall,
                    "problem": problem[:300] or None,
                    "due_at": transaction.wall + FIRST_RETRY_S * 2 ** (attempts - 1),
                }
                mine = webhook_deliveries.c.id == row["id"]
                transaction.connection.execute(update(webhook_deliveries).where(mine).values(result))
                old = webhook_deliveries.c.created_at < transaction.wall - KEEP_S
                transaction.connection.execute(delete(webhook_deliveries).where(old))
        return len(due)


def queue_expiries(transaction: Transaction) -> None:
    """Queues notices of grants that end soon (``expiry_warning_days``) or have ended, once for each."""
    now, soon = transaction.wall, read_values(transaction).expiry_warning_days * 86_400
    told = transaction.row(select(settings.c.value).where(settings.c.name == "told_expiries"))
    known: set[str] = set(json.loads(told["value"])) if told else set()
    fresh: set[str] = set()
    for grant in transaction.rows(select(grants).where(grants.c.valid_until < now + soon)):
        state = "expired" if grant["valid_until"] <= now else "expiring"
        key = f"{grant['license']}/{grant['position']}/{grant['valid_until']:.0f}/{state}"
        fresh.add(key)
        if key not in known:
            until = utc(grant["valid_until"]).isoformat()
            facts = {"license": grant["license"], "feature": grant["feature"], "capacity": grant["capacity"]}
            queue(transaction, "expiry", {**facts, "state": state, "until": until})
    if fresh != known:
        transaction.write(delete(settings).where(settings.c.name == "told_expiries"))
        transaction.write(insert(settings).values(name="told_expiries", value=json.dumps(sorted(fresh))))


def post_over_https(address: str, body: bytes, headers: Mapping[str, str]) -> str:
    """Returns '' if it was accepted, else what was wrong. Ignores redirects, uses proxies from the environment."""
    import urllib.error  # noqa: PLC0415  # only if there is something to deliver
    import urllib.request  # noqa: PLC0415

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    request = urllib.request.Request(address, body, dict(headers), method="POST")  # noqa: S310  # https, as checked
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=POST_TIMEOUT_S) as answer:
            return "" if answer.status < 300 else f"HTTP {answer.status}"
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__


def queue(transaction: Transaction, event: str, facts: Mapping[str, Any]) -> None:
    """Queues a notice in the transaction of its event, unless no address is set or the event is not wanted."""
    values = read_values(transaction)
    wanted = {"denial": values.webhook_denials, "expiry": values.webhook_expiries}.get(event, True)
    if not values.webhook_url or not wanted:
        return
    at = utc(transaction.wall).isoformat()
    transaction.connection.execute(
        insert(webhook_deliveries).values(
            event=event,
            payload=json.dumps({"event": event, "at": at, **facts}),
            created_at=transaction.wall,
            due_at=transaction.wall,
            attempts=0,
        )
    )


def _headers(values: Values, body: bytes) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "swarm-license-server"}
    if values.webhook_secret:
        mac = hmac.new(values.webhook_secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Swarm-Signature"] = f"sha256={mac}"
    return headers
