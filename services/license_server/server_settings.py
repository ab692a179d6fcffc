"""What administrators set while the server runs. It is validated, then kept in the database."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete, insert, select

from services.errors import AdminError
from services.license_server.actor import Actor
from services.license_server.audit_log import record
from services.license_server.database import Database, Transaction
from services.license_server.schema import settings

MAX_LEASE_S = 40  # a stale seat must be free within a minute


@dataclass(frozen=True)
class Values:
    """``lease_s``: a lease not renewed for this long is freed. ``grace_h``: how long a node goes on without a license
    server, or after its license expired. ``session_min``: idle sessions end after this. ``keep_days``: for the usage
    history.
    """

    lease_s: int = 30
    grace_h: float = 24.0
    session_min: int = 30
    session_max_h: int = 12
    keep_days: int = 400
    expiry_warning_days: int = 30
    webhook_url: str = ""
    webhook_secret: str = ""
    webhook_denials: bool = True
    webhook_expiries: bool = True


# name -> (least, most)
_BOUNDS: dict[str, tuple[float, float]] = {
    "lease_s": (3, MAX_LEASE_S),
    "grace_h": (0, 24 * 30),
    "session_min": (1, 24 * 60),
    "session_max_h": (1, 24 * 7),
    "keep_days": (1, 3650),
    "expiry_warning_days": (1, 365),
}
_NAMES = {field.name: field for field in fields(Values)}


class ServerSettings:
    """Code in the server may read it without permission; ``webhook_secret`` must not be shown to anyone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def values(self) -> Values:
        with self._database.read() as transaction:
            return read_values(transaction)

    def change(self, actor: Actor, **changes: Any) -> Values:
        """Changes only the given settings. Raises AdminError that names the setting."""
        actor.require("settings:write")
        checked = {name: _checked(name, value) for name, value in changes.items()}
        with self._database.write() as transaction:
            before = asdict(read_values(transaction))
            differing = {name: value for name, value in checked.items() if before[name] != value}
            for name, value in differing.items():
                transaction.write(delete(settings).where(settings.c.name == name))
                transaction.write(insert(settings).values(name=name, value=json.dumps(value)))
            if differing:
                told = {name: "(secret)" if "secret" in name else value for name, value in differing.items()}
                record(transaction, actor, "settings changed", "", told)
            return Values(**{**before, **differing})

    def lock_code(self) -> str:
        """The code to give to an issuer for a license that only this server accepts."""
        with self._database.read() as transaction:
            return read_lock_code(transaction)

    def trust_wall_clock(self, actor: Actor) -> None:
        """For a clock that was once ahead: forgets the latest time seen, so that dates follow the system
        clock again.
        """
        actor.require("settings:write")
        with self._database.write() as transaction:
            forgotten = transaction.wall
            transaction.wall = self._database.trust_wall_clock()
            record(transaction, actor, "clock trusted", "", {"was": forgotten, "is": transaction.wall})


def read_values(transaction: Transaction) -> Values:
    rows = transaction.connection.execute(select(settings.c.name, settings.c.value).where(settings.c.name.in_(_NAMES)))
    return Values(**{name: json.loads(value) for name, value in rows})


def read_lock_code(transaction: Transaction) -> str:
    found = transaction.connection.scalar(select(settings.c.value).where(settings.c.name == "lock_code"))
    return str(json.loads(found)) if found else ""


def _checked(name: str, value: Any) -> Any:
    field = _NAMES.get(name)
    if field is None:
        raise AdminError(problem=f"There is no setting {name}; there are {', '.join(_NAMES)}")
    if name in _BOUNDS:
        least, most = _BOUNDS[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise AdminError(problem=f"{name} is {value!r}, and must be {least:g} to {most:g}")
        return float(value) if field.type is float else int(value)
    if isinstance(field.default, bool):
        if not isinstance(value, bool):
            raise AdminError(problem=f"{name} is {value!r}, and must be true or false")
        return value
    if not isinstance(value, str) or len(value) > 2_000:
        raise AdminError(problem=f"{name} must be text of at most 2000 characters")
    if name == "webhook_url" and value:
        parts = urlsplit(value)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
            raise AdminError(problem="webhook_url must be an https:// address without a password in it")
    return value
