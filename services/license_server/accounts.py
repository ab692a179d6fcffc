"""Users, how they sign in, and the first user, who is created through a one-time link."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from services.errors import (
    AdminError,
    CodeNeeded,
    LastAdmin,
    SetupOver,
    SignInFailed,
    SignInRequired,
    SwarmError,
)
from services.license_server import credentials
from services.license_server.actor import SYSTEM, Actor, Role
from services.license_server.audit_log import record
from services.license_server.database import Database, Transaction
from services.license_server.rows import utc
from services.license_server.schema import sessions, setup_tokens, users
from services.license_server.server_settings import read_values
from services.license_server.sign_in_locks import (
    forget_old,
    note_failure,
    require_unlocked,
    unlock,
    unlock_everywhere,
)
from services.license_server.user_rows import User, add_user, checked_role, count_users, find_user, user_view

__all__ = ["Accounts", "User", "UserSession"]

SETUP_LINK_S = 24 * 3600.0


@dataclass(frozen=True)
class UserSession:
    """``secret``: for the cookie; given only when the session is made, '' afterwards."""

    secret: str
    csrf: str
    user: User
    expires_at: datetime
    address: str = ""

    def actor(self, address: str) -> Actor:
        return Actor.user(self.user.id, self.user.name, self.user.role, address)


class Accounts:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- the first user ---

    def setup_secret(self) -> str | None:
        """A new secret, the end of the one-time link; it voids the previous one. None if the server has users."""
        secret = credentials.new_token()
        with self._database.write() as transaction:
            if count_users(transaction):
                return None
            transaction.write(delete(setup_tokens))
            row = {
                "hash": credentials.digest(secret),
                "created_at": transaction.wall,
                "expires_at": transaction.wall + SETUP_LINK_S,
            }
            transaction.write(insert(setup_tokens).values(row))
        return secret

    def needs_setup(self) -> bool:
        with self._database.read() as transaction:
            return count_users(transaction) == 0

    def check_setup(self, secret: str) -> None:
        """Raises SetupOver."""
        with self._database.read() as transaction:
            _require_setup(transaction, secret)

    def set_up(self, secret: str, name: str, password: str, address: str) -> User:
        """Makes the first administrator; the link is void afterwards. Raises SetupOver, AdminError."""
        self.check_setup(secret)
        hashed = credentials.hash_password(password)
        with self._database.write() as transaction:
            _require_setup(transaction, secret)
            transaction.write(delete(setup_tokens))
            user = add_user(transaction, name, hashed, "admin")
            record(transaction, replace(SYSTEM, address=address), "first administrator made", user.name)
            return user

    # --- signing in ---

    def sign_in(self, name: str, password: str, code: str, address: str, agent: str = "") -> UserSession:
        """Raises SignInFailed, SignInLocked, CodeNeeded (only if the password was right)."""
        with self._database.read() as transaction:
            row = transaction.row(select(users).where(users.c.name == name))
            if row is not None:
                require_unlocked(transaction, row, address)
        fits = credentials.password_fits(row["password"] if row else credentials.decoy(), password)
        refusal: SwarmError | None = None
        with self._database.write() as transaction:
            row = transaction.row(select(users).where(users.c.name == name))
            if row is not None:
                require_unlocked(transaction, row, address)
            step = None
            if row is None or not fits or row["disabled"]:
                refusal = SignInFailed()
            elif row["totp"] is not None and not code:
                refusal = CodeNeeded()
            elif row["totp"] is not None:
                step = credentials.totp_step_of(row["totp"], code, transaction.wall, row["totp_step"])
                refusal = SignInFailed() if step is None else None
            if refusal is None and row is not None:
                return _signed_in(transaction, row, step, address, agent)
            if not isinstance(refusal, CodeNeeded):
                _note_failure(transaction, row, name, address)
        raise refusal or SignInFailed()

    def session(self, secret: str, *, active: bool = True) -> UserSession:
        """The session of a cookie. Restarts its idle time, unless a page that refreshes by itself asks (not
        ``active``).

        Raises SignInRequired.
        """
        key = credentials.digest(secret)
        with self._database.read() as transaction:
            values = read_values(transaction)
            row = transaction.row(
                select(sessions, users.c.disabled)
                .join(users, users.c.id == sessions.c.user)
                .where(sessions.c.id == key)
            )
            now = transaction.wall
            idle_s = values.session_min * 60
            if row is None or row["disabled"]:
                raise SignInRequired(problem="there is no such session")
            if now >= row["expires_at"] or now - row["seen_at"] >= idle_s:
                raise SignInRequired(problem="the session has expired")
            user = user_view(transaction.row(select(users).where(users.c.id == row["user"])) or {}, now)
        if active and now - row["seen_at"] > min(60.0, idle_s / 4):
            with self._database.write() as transaction:
                transaction.connection.execute(update(sessions).where(sessions.c.id == key).values(seen_at=now))
        return UserSession("", row["csrf"], user, utc(row["expires_at"]), row["address"])

    def sign_out(self, secret: str, address: str) -> None:
        key = credentials.digest(secret)
        with self._database.write() as transaction:
            row = transaction.row(
                select(users.c.id, users.c.name, users.c.role)
                .join(sessions, users.c.id == sessions.c.user)
                .where(sessions.c.id == key)
            )
            if row is not None:
                transaction.write(delete(sessions).where(sessions.c.id == key))
                record(transaction, Actor.user(row["id"], row["name"], row["role"], address), "signed out")

    # --- users ---

    def all(self, actor: Actor) -> list[User]:
        actor.require("users:read")
        with self._database.read() as transaction:
            return [user_view(row, transaction.wall) for row in transaction.rows(select(users).order_by(users.c.name))]

    def get(self, actor: Actor, user_id: int) -> User:
        """Raises NoSuchThing."""
        if actor.user_id != user_id:
            actor.require("users:read")
        with self._database.read() as transaction:
            return user_view(find_user(transaction, user_id), transaction.wall)

    def create(self, actor: Actor, name: str, password: str, role: Role) -> User:
        """Raises ThingExists, AdminError."""
        actor.require("users:write")
        hashed = credentials.hash_password(password)
        with self._database.write() as transaction:
            user = add_user(transaction, name, hashed, role)
            record(transaction, actor, "user made", user.name, {"role": role})
            return user

    def change(self, actor: Actor, user_id: int, *, role: Role | None = None, disabled: bool | None = None) -> User:
        """A disabled user is signed out. Raises NoSuchThing, LastAdmin."""
        actor.require("users:write")
        with self._database.write() as transaction:
            row = find_user(transaction, user_id)
            changes: dict[str, Any] = {}
            if role is not None:
                changes["role"] = checked_role(role)
            if disabled is not None:
                changes["disabled"] = disabled
            after = {**row, **changes}
            if row["role"] == "admin" and not row["disabled"] and (after["role"] != "admin" or after["disabled"]):
                _require_another_admin(transaction, row)
            if changes:
                transaction.write(update(users).where(users.c.id == user_id).values(changes))
                record(transaction, actor, "user changed", row["name"], changes)
            if after["disabled"]:
                transaction.write(delete(sessions).where(sessions.c.user == user_id))
            return user_view(after, transaction.wall)

    def set_password(self, actor: Actor, user_id: int, password: str) -> None:
        """For administrators: unlocks the user and ends all sessions of the user."""
        actor.require("users:write")
        self._set_password(actor, user_id, credentials.hash_password(password), "password set")

    def unlock(self, actor: Actor, user_id: int) -> None:
        """For administrators: the user can sign in from every address again, also from those with too many failures."""
        actor.require("users:write")
        with self._database.write() as transaction:
            row = find_user(transaction, user_id)
            unlock_everywhere(transaction, user_id)
            record(transaction, actor, "user unlocked", row["name"])

    def change_password(self, actor: Actor, current: str, password: str) -> None:
        """For the user, whose sessions all end. Raises SignInFailed for a wrong password, SignInLocked."""
        row = self._own(actor, current)
        self._set_password(actor, row["id"], credentials.hash_password(password), "password changed")

    def remove(self, actor: Actor, user_id: int) -> None:
        """Removes the user with all sessions and API tokens. Raises NoSuchThing, LastAdmin."""
        actor.require("users:write")
        with self._database.write() as transaction:
            row = find_user(transaction, user_id)
            if row["role"] == "admin" and not row["disabled"]:
                _require_another_admin(transaction, row)
            transaction.write(delete(users).where(users.c.id == user_id))
            record(transaction, actor, "user removed", row["name"], {"role": row["role"]})

    # --- one-time codes ---

    def new_totp(self, actor: Actor) -> tuple[str, str]:
        """A secret and its otpauth:// address, to be confirmed by ``enable_totp``; nothing is stored yet."""
        _require_user(actor)
        secret = credentials.new_totp_secret()
        return secret, credentials.totp_address(actor.name, secret)

    def enable_totp(self, actor: Actor, secret: str, code: str, current: str) -> None:
        """``current``: the password. Raises SignInFailed if it is wrong or the code does not belong to the secret."""
        row = self._own(actor, current)
        try:
            step = credentials.totp_step_of(secret, code, self._wall(), 0)
        except ValueError:
            raise AdminError(problem="This is not a secret of an authenticator app") from None
        if step is None:
            raise SignInFailed()
        with self._database.write() as transaction:
            transaction.write(update(users).where(users.c.id == row["id"]).values(totp=secret, totp_step=step))
            record(transaction, actor, "second factor on", row["name"])

    def disable_totp(self, actor: Actor, current: str) -> None:
        """For the user."""
        row = self._own(actor, current)
        with self._database.write() as transaction:
            transaction.write(update(users).where(users.c.id == row["id"]).values(totp=None))
            record(transaction, actor, "second factor off", row["name"])

    def reset_totp(self, actor: Actor, user_id: int) -> None:
        """For administrators, if a user has lost the device."""
        actor.require("users:write")
        with self._database.write() as transaction:
            row = find_user(transaction, user_id)
            transaction.write(update(users).where(users.c.id == user_id).values(totp=None))
            record(transaction, actor, "second factor reset", row["name"])

    def forget_sessions(self) -> None:
        """Deletes expired sessions; call this now and then."""
        with self._database.write() as transaction:
            idle_s = read_values(transaction).session_min * 60
            over = (sessions.c.expires_at <= transaction.wall) | (sessions.c.seen_at <= transaction.wall - idle_s)
            transaction.connection.execute(delete(sessions).where(over))
            forget_old(transaction)

    # --- inside ---

    def _wall(self) -> float:
        with self._database.read() as transaction:
            return transaction.wall

    def _own(self, actor: Actor, current: str) -> Mapping[str, Any]:
        """The actor's own row, if the password is right; a wrong one counts as a failed sign-in."""
        user_id = _require_user(actor)
        with self._database.read() as transaction:
            row = find_user(transaction, user_id)
            require_unlocked(transaction, row, actor.address)
        if not credentials.password_fits(row["password"], current):
            with self._database.write() as transaction:
                _note_failure(transaction, find_user(transaction, user_id), row["name"], actor.address)
            raise SignInFailed()
        return row

    def _set_password(self, actor: Actor, user_id: int, hashed: str, action: str) -> None:
        with self._database.write() as transaction:
            row = find_user(transaction, user_id)
            transaction.write(update(users).where(users.c.id == user_id).values(password=hashed))
            transaction.write(delete(sessions).where(sessions.c.user == user_id))
            unlock_everywhere(transaction, user_id)
            record(transaction, actor, action, row["name"])


def _signed_in(
    transaction: Transaction, row: Mapping[str, Any], step: int | None, address: str, agent: str
) -> UserSession:
    """Always makes a new session, so that no earlier one can be taken over."""
    values = read_values(transaction)
    secret, csrf = credentials.new_token(), credentials.new_token()
    expires_at = transaction.wall + values.session_max_h * 3600
    changes = {"signed_in_at": transaction.wall}
    changes |= {"totp_step": step} if step is not None else {}
    transaction.write(update(users).where(users.c.id == row["id"]).values(changes))
    unlock(transaction, row, address)
    transaction.write(
        insert(sessions).values(
            id=credentials.digest(secret),
            user=row["id"],
            csrf=csrf,
            address=address[:64],
            agent=agent[:200],
            created_at=transaction.wall,
            seen_at=transaction.wall,
            expires_at=expires_at,
        )
    )
    user = user_view(find_user(transaction, row["id"]), transaction.wall)
    record(transaction, Actor.user(user.id, user.name, user.role, address), "signed in")
    return UserSession(secret, csrf, user, utc(expires_at), address)


def _note_failure(transaction: Transaction, row: Mapping[str, Any] | None, name: str, address: str) -> None:
    actor = Actor("user", row["name"] if row else name[:64], frozenset(), address)
    if row is None:
        record(transaction, actor, "sign-in failed", "", {"why": "no such user"})
        return
    failures = note_failure(transaction, row, address)
    record(transaction, actor, "sign-in failed", "", {"failures": failures})


def _require_setup(transaction: Transaction, secret: str) -> None:
    if count_users(transaction):
        raise SetupOver(problem="this server has users already")
    row = transaction.row(select(setup_tokens).where(setup_tokens.c.hash == credentials.digest(secret)))
    if row is None:
        raise SetupOver(problem="it is not the newest one")
    if transaction.wall >= row["expires_at"]:
        raise SetupOver(problem="it is older than a day")


def _require_user(actor: Actor) -> int:
    if actor.user_id is None:
        raise SignInRequired(problem="only the user may do this")
    return actor.user_id


def _require_another_admin(transaction: Transaction, row: Mapping[str, Any]) -> None:
    others = (users.c.role == "admin") & (users.c.id != row["id"]) & users.c.disabled.is_(False)
    if not transaction.connection.scalar(select(func.count()).select_from(users).where(others)):
        raise LastAdmin(name=row["name"])
