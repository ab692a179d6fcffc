"""Tokens for programs: each has scopes and an expiry date, and is shown once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, or_, select, update

from services.errors import AdminError, NoSuchThing, NotPermitted, SignInRequired
from services.license_server import credentials
from services.license_server.actor import SCOPES, SCOPES_OF_ROLE, Actor
from services.license_server.audit_log import record
from services.license_server.database import Database
from services.license_server.rows import read_as
from services.license_server.schema import api_tokens, users

PREFIX = "swl_"  # so that a leaked token is recognized as one
MAX_DAYS = 366


@dataclass(frozen=True)
class ApiToken:
    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime
    used_at: datetime | None
    expired: bool


class ApiTokens:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, actor: Actor, name: str, scopes: Sequence[str], days: int) -> tuple[ApiToken, str]:
        """The token's record, and the token itself, which is shown only once. Nobody can grant more rights than their
        own.
        """
        actor.require("tokens:write")
        unknown = set(scopes) - set(SCOPES)
        if unknown or not scopes:
            raise AdminError(problem=f"Scopes are of {', '.join(SCOPES)}")
        if not actor.may(scopes):
            raise NotPermitted(name=actor.name, scope=", ".join(sorted(set(scopes) - actor.scopes)))
        if not 1 <= days <= MAX_DAYS:
            raise AdminError(problem=f"A token is good for 1 to {MAX_DAYS} days")
        if not 1 <= len(name.strip()) <= 100 or not name.isprintable():
            raise AdminError(problem="A token's name has 1 to 100 printable characters")
        identifier, secret = credentials.digest(credentials.new_token())[:16], credentials.new_token()
        with self._database.write() as transaction:
            row = {
                "id": identifier,
                "hash": credentials.digest(secret),
                "name": name.strip(),
                "user": actor.user_id,
                "scopes": json.dumps(sorted(set(scopes))),
                "created_at": transaction.wall,
                "created_by": actor.name,
                "expires_at": transaction.wall + days * 86_400,
                "used_at": None,
            }
            transaction.write(insert(api_tokens).values(row))
            told = {"token": identifier, "scopes": " ".join(sorted(set(scopes))), "days": days}
            record(transaction, actor, "API token made", name.strip(), told)
            return _token(row, transaction.wall), f"{PREFIX}{identifier}_{secret}"

    def all(self, actor: Actor) -> list[ApiToken]:
        actor.require("tokens:write")
        with self._database.read() as transaction:
            rows = transaction.rows(select(api_tokens).order_by(api_tokens.c.created_at.desc()))
            return [_token(row, transaction.wall) for row in rows]

    def revoke(self, actor: Actor, token_id: str) -> None:
        """Raises NoSuchThing."""
        actor.require("tokens:write")
        with self._database.write() as transaction:
            row = transaction.row(select(api_tokens).where(api_tokens.c.id == token_id))
            if row is None:
                raise NoSuchThing(what="API token", name=token_id[:40])
            transaction.write(delete(api_tokens).where(api_tokens.c.id == token_id))
            record(transaction, actor, "API token revoked", row["name"], {"token": token_id})

    def actor_of(self, shown: str, address: str) -> Actor:
        """The actor behind a token. Its rights are limited to those that its maker still has. Raises SignInRequired."""
        identifier, _, secret = shown.removeprefix(PREFIX).partition("_")
        with self._database.read() as transaction:
            row = transaction.row(
                select(api_tokens, users.c.role, users.c.disabled)
                .outerjoin(users, users.c.id == api_tokens.c.user)
                .where(api_tokens.c.id == identifier)
                .where(or_(api_tokens.c.user.is_(None), users.c.id.is_not(None)))
            )
            now = transaction.wall
        if row is None or not secret or row["hash"] != credentials.digest(secret):
            raise SignInRequired(problem="the API token is not known")
        if now >= row["expires_at"]:
            raise SignInRequired(problem="the API token has expired")
        if row["disabled"]:
            raise SignInRequired(problem="the user of the API token is disabled")
        scopes = frozenset(json.loads(row["scopes"]))
        if row["user"] is not None:
            scopes &= SCOPES_OF_ROLE[row["role"]]
        if now - (row["used_at"] or 0.0) > 60:
            with self._database.write() as transaction:
                used = update(api_tokens).where(api_tokens.c.id == identifier).values(used_at=now)
                transaction.connection.execute(used)
        return Actor("token", f"{row['name']} ({identifier})", scopes, address)


def _token(row: Mapping[str, Any], now: float) -> ApiToken:
    return read_as(ApiToken, row, scopes=tuple(json.loads(row["scopes"])), expired=now >= row["expires_at"])
