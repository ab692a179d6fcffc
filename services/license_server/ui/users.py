"""The people who administer this server."""

from typing import cast

from starlette.responses import Response

from services.license_server.accounts import User
from services.license_server.actor import ROLES, Role
from services.license_server.ui.gate import action, page
from services.license_server.ui.pools import whole_number
from services.license_server.ui.sign_in import require_same
from services.license_server.ui.visit import Visit

ROLE_WORDS = {
    "admin": "Everything: also users, API tokens, settings and backups",
    "operator": "Licenses, pools and leases; sees settings and the audit log",
    "viewer": "Looks at licenses, pools, leases and use; changes nothing",
}


def show(visit: Visit) -> Response:
    return visit.render("users.html", users=visit.office.accounts.all(visit.actor), role_words=ROLE_WORDS)


def ask_for_new(visit: Visit) -> Response:
    visit.actor.require("users:write")
    return visit.render("user_new.html", roles=ROLES, role_words=ROLE_WORDS)


def create(visit: Visit) -> Response:
    password = visit.secret("password")
    require_same(password, visit.secret("again"))
    user = visit.office.accounts.create(visit.actor, visit.text("name"), password, _role(visit))
    return visit.go("/users", f"{user.name} can sign in as {user.role} now.")


def show_one(visit: Visit) -> Response:
    visit.actor.require("users:write")
    return visit.render("user.html", user=_user(visit), roles=ROLES, role_words=ROLE_WORDS)


def change_role(visit: Visit) -> Response:
    user = visit.office.accounts.change(visit.actor, _id(visit), role=_role(visit))
    return visit.go("/users", f"{user.name} is {user.role} now.")


def disable(visit: Visit) -> Response:
    user = visit.office.accounts.change(visit.actor, _id(visit), disabled=True)
    return visit.go("/users", f"{user.name} is signed out and cannot sign in any more.")


def enable(visit: Visit) -> Response:
    user = visit.office.accounts.change(visit.actor, _id(visit), disabled=False)
    return visit.go("/users", f"{user.name} can sign in again.")


def set_password(visit: Visit) -> Response:
    user, password = _user(visit), visit.secret("password")
    require_same(password, visit.secret("again"))
    visit.office.accounts.set_password(visit.actor, user.id, password)
    return visit.go("/users", f"{user.name} has a new password, and is signed out everywhere.")


def reset_code(visit: Visit) -> Response:
    user = _user(visit)
    visit.office.accounts.reset_totp(visit.actor, user.id)
    return visit.go("/users", f"{user.name} signs in without a code until the next one is set up.")


def ask_to_remove(visit: Visit) -> Response:
    visit.actor.require("users:write")
    return visit.render("user_remove.html", user=_user(visit))


def remove(visit: Visit) -> Response:
    user = _user(visit)
    visit.office.accounts.remove(visit.actor, user.id)
    return visit.go("/users", f"{user.name} is removed.")


def _id(visit: Visit) -> int:
    return whole_number(visit.path("id"), "The user")


def _user(visit: Visit) -> User:
    return visit.office.accounts.get(visit.actor, _id(visit))


def _role(visit: Visit) -> Role:
    return cast(Role, visit.text("role"))  # checked where it is stored


ROUTES = [
    page("/users", show),
    page("/users/new", ask_for_new),
    action("/users/new", create),
    page("/users/{id}", show_one),
    action("/users/{id}/role", change_role),
    action("/users/{id}/disable", disable),
    action("/users/{id}/enable", enable),
    action("/users/{id}/password", set_password),
    action("/users/{id}/reset-code", reset_code),
    page("/users/{id}/remove", ask_to_remove),
    action("/users/{id}/remove", remove),
]
