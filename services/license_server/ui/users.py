"""The people who administer this server."""

from typing import cast

from starlette.responses import Response

from services.license_server.accounts import User
from services.license_server.actor import ROLES, Role
from services.license_server.ui.page_request import PageRequest
from services.license_server.ui.pools import whole_number
from services.license_server.ui.routing import action, page
from services.license_server.ui.sign_in import require_same

ROLE_WORDS = {
    "admin": "Everything: also users, API tokens, settings and backups",
    "operator": "Licenses, pools and leases; sees settings and the audit log",
    "viewer": "Looks at licenses, pools, leases and use; changes nothing",
}


def show(request: PageRequest) -> Response:
    return request.render("users.html", users=request.services.accounts.all(request.actor), role_words=ROLE_WORDS)


def ask_for_new(request: PageRequest) -> Response:
    request.actor.require("users:write")
    return request.render("user_new.html", roles=ROLES, role_words=ROLE_WORDS)


def create(request: PageRequest) -> Response:
    password = request.secret("password")
    require_same(password, request.secret("again"))
    user = request.services.accounts.create(request.actor, request.text("name"), password, _role(request))
    return request.go("/users", f"{user.name} can sign in as {user.role} now.")


def show_one(request: PageRequest) -> Response:
    request.actor.require("users:write")
    return request.render("user.html", user=_user(request), roles=ROLES, role_words=ROLE_WORDS)


def change_role(request: PageRequest) -> Response:
    user = request.services.accounts.change(request.actor, _id(request), role=_role(request))
    return request.go("/users", f"{user.name} is {user.role} now.")


def disable(request: PageRequest) -> Response:
    user = request.services.accounts.change(request.actor, _id(request), disabled=True)
    return request.go("/users", f"{user.name} is signed out and cannot sign in any more.")


def enable(request: PageRequest) -> Response:
    user = request.services.accounts.change(request.actor, _id(request), disabled=False)
    return request.go("/users", f"{user.name} can sign in again.")


def unlock(request: PageRequest) -> Response:
    user = _user(request)
    request.services.accounts.unlock(request.actor, user.id)
    return request.go("/users", f"{user.name} can sign in from every address again.")


def set_password(request: PageRequest) -> Response:
    user, password = _user(request), request.secret("password")
    require_same(password, request.secret("again"))
    request.services.accounts.set_password(request.actor, user.id, password)
    return request.go("/users", f"{user.name} has a new password, and is signed out everywhere.")


def reset_code(request: PageRequest) -> Response:
    user = _user(request)
    request.services.accounts.reset_totp(request.actor, user.id)
    return request.go("/users", f"{user.name} signs in without a code until the next one is set up.")


def ask_to_remove(request: PageRequest) -> Response:
    request.actor.require("users:write")
    return request.render("user_remove.html", user=_user(request))


def remove(request: PageRequest) -> Response:
    user = _user(request)
    request.services.accounts.remove(request.actor, user.id)
    return request.go("/users", f"{user.name} is removed.")


def _id(request: PageRequest) -> int:
    return whole_number(request.path("id"), "The user")


def _user(request: PageRequest) -> User:
    return request.services.accounts.get(request.actor, _id(request))


def _role(request: PageRequest) -> Role:
    return cast(Role, request.text("role"))  # checked when it is stored


ROUTES = [
    page("/users", show),
    page("/users/new", ask_for_new),
    action("/users/new", create),
    page("/users/{id}", show_one),
    action("/users/{id}/role", change_role),
    action("/users/{id}/disable", disable),
    action("/users/{id}/enable", enable),
    action("/users/{id}/unlock", unlock),
    action("/users/{id}/password", set_password),
    action("/users/{id}/reset-code", reset_code),
    page("/users/{id}/remove", ask_to_remove),
    action("/users/{id}/remove", remove),
]
