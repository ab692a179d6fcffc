"""The rows of users: finds, counts, adds and shows them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select

from services.errors import AdminError, NoSuchThing, ThingExists
from services.license_server.actor import ROLES, Role
from services.license_server.database import Transaction
from services.license_server.rows import read_as, utc
from services.license_server.schema import users

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class User:
    id: int
    name: str
    role: Role
    totp: bool
    disabled: bool
    locked_until: datetime | None
    created_at: datetime
    signed_in_at: datetime | None


def add_user(transaction: Transaction, name: str, hashed: str, role: Role) -> User:
    if not _NAME.fullmatch(name):
        raise AdminError(problem="A user's name is 1 to 64 letters, digits, '.', '_', '@' or '-'")
    if transaction.row(select(users.c.id).where(func.lower(users.c.name) == name.lower())):
        raise ThingExists(what="user", name=name)
    row = {
        "name": name,
        "password": hashed,
        "role": checked_role(role),
        "totp": None,
        "totp_step": 0,
        "failures": 0,
        "locked_until": 0.0,
        "disabled": False,
        "created_at": transaction.wall,
        "signed_in_at": None,
    }
    made = transaction.write(insert(users).values(row)).inserted_primary_key
    return user_view({**row, "id": made[0]}, transaction.wall)


def checked_role(role: str) -> str:
    if role not in ROLES:
        raise AdminError(problem=f"There is no role {role[:40]}; there are {', '.join(ROLES)}")
    return role


def find_user(transaction: Transaction, user_id: int) -> Mapping[str, Any]:
    row = transaction.row(select(users).where(users.c.id == user_id))
    if row is None:
        raise NoSuchThing(what="user", name=user_id)
    return row


def count_users(transaction: Transaction) -> int:
    return int(transaction.connection.scalar(select(func.count()).select_from(users)) or 0)


def user_view(row: Mapping[str, Any], now: float) -> User:
    locked = row["locked_until"]
    locked_until = utc(locked) if locked > now else None
    return read_as(User, row, totp=row["totp"] is not None, disabled=bool(row["disabled"]), locked_until=locked_until)
