"""`swarm license users | add-user | change-user | password | unlock-user | remove-user`, and those of API tokens."""

import sys
from typing import Annotated, Any

import typer

from services.cli.license_session import JsonOut, LicenseSession, session_of, show
from services.errors import NoSuchThing

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a user.")]
Role = Annotated[str, typer.Option("--role", help="admin, operator or viewer.")]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    app.command("users")(users)
    app.command("add-user")(add_user)
    app.command("change-user")(change_user)
    app.command("password")(password)
    app.command("unlock-user")(unlock_user)
    app.command("remove-user")(remove_user)
    app.command("tokens")(tokens)
    app.command("add-token")(add_token)
    app.command("revoke-token")(revoke_token)


def users(context: typer.Context, *, as_json: JsonOut = False) -> None:
    """List who may sign in."""
    found = session_of(context).get("/users")
    rows = [[it["name"], it["role"], "on" if it["totp"] else "off", _state(it)] for it in found]
    show(found, as_json, ["user", "role", "second factor", "state"], rows)


def add_user(context: typer.Context, name: Name, role: Role = "viewer") -> None:
    """Make a user; the password is asked for, or read from standard input."""
    content = {"name": name, "role": role, "password": _password()}
    session_of(context).send("POST", "/users", content)
    print(f"{name} can sign in as {role}")


def change_user(
    context: typer.Context,
    name: Name,
    *,
    role: Annotated[str | None, typer.Option("--role", help="admin, operator or viewer.")] = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", help="Whether the user may sign in.")] = None,
) -> None:
    """Give a user another role, or lock the user out."""
    session = session_of(context)
    given = {"role": role, "disabled": disabled}
    changes = {field: value for field, value in given.items() if value is not None}
    found = session.send("PATCH", f"/users/{_id(session, name)}", changes)
    print(f"{name} is {found['role']}, {'disabled' if found['disabled'] else 'active'}")


def password(context: typer.Context, name: Name) -> None:
    """Set a user's password, which is asked for, or read from standard input. Also unlocks the user."""
    session = session_of(context)
    session.send("PUT", f"/users/{_id(session, name)}/password", {"password": _password()})
    print(f"{name} has a new password, and is signed out everywhere")


def unlock_user(context: typer.Context, name: Name) -> None:
    """Let a user sign in again from every address, also from those with too many wrong passwords."""
    session = session_of(context)
    session.send("DELETE", f"/users/{_id(session, name)}/locks")
    print(f"{name} can sign in from every address again")


def remove_user(context: typer.Context, name: Name) -> None:
    """Remove a user, with all API tokens of the user."""
    session = session_of(context)
    session.send("DELETE", f"/users/{_id(session, name)}")
    print(f"Removed {name}")


def tokens(context: typer.Context, *, as_json: JsonOut = False) -> None:
    """List the API tokens; what they are shown as is not kept."""
    found = session_of(context).get("/tokens")
    rows = [[it["id"], it["name"], it["expires_at"][:10], " ".join(it["scopes"])] for it in found]
    show(found, as_json, ["token", "name", "until", "scopes"], rows)


def add_token(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    scope: Annotated[list[str], typer.Option("--scope", help="Such as leases:read; may be repeated.")],
    days: Annotated[int, typer.Option("--days", help="How long it is valid.")] = 90,
) -> None:
    """Make an API token. It is printed once."""
    made = session_of(context).send("POST", "/tokens", {"name": name, "scopes": scope, "days": days})
    print(made["shown_once"])


def revoke_token(context: typer.Context, token: Annotated[str, typer.Argument(metavar="TOKEN")]) -> None:
    """Make an API token void, by its id."""
    session_of(context).send("DELETE", f"/tokens/{token}")
    print(f"Revoked {token}")


def _state(user: dict[str, Any]) -> str:
    if user["disabled"]:
        return "disabled"
    return f"locked for an address until {user['locked_until'][:16]}" if user["locked_until"] else "active"


def _id(session: LicenseSession, name: str) -> int:
    for user in session.get("/users"):
        if user["name"] == name:
            return int(user["id"])
    raise NoSuchThing(what="user", name=name)


def _password() -> str:
    """Never an argument: other users of the machine see those."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")
