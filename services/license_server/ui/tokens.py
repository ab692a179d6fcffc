"""API tokens: made, shown once, revoked."""

from starlette.responses import Response

from services.errors import NoSuchThing
from services.license_server.actor import SCOPES
from services.license_server.api_tokens import ApiToken
from services.license_server.ui.gate import action, page
from services.license_server.ui.pools import whole_number
from services.license_server.ui.visit import Visit

DAYS = (7, 30, 90, 180, 366)


def show(visit: Visit) -> Response:
    return visit.render("tokens.html", tokens=visit.office.tokens.all(visit.actor))


def ask_for_new(visit: Visit) -> Response:
    visit.actor.require("tokens:write")
    return visit.render("token_new.html", scopes=SCOPES, days=DAYS)


def create(visit: Visit) -> Response:
    days = whole_number(visit.text("days"), "Days")
    token, shown = visit.office.tokens.create(visit.actor, visit.text("name"), visit.texts("scope"), days)
    response = visit.render("token_made.html", token=token, shown=shown)
    if visit.htmx:
        response.headers["HX-Retarget"] = "#dialog"
    return response


def ask_to_revoke(visit: Visit) -> Response:
    return visit.render("token_revoke.html", token=_token(visit))


def revoke(visit: Visit) -> Response:
    token = _token(visit)
    visit.office.tokens.revoke(visit.actor, token.id)
    return visit.go("/tokens", f"The API token {token.name} is of no use any more.")


def _token(visit: Visit) -> ApiToken:
    token_id = visit.path("id")
    for token in visit.office.tokens.all(visit.actor):
        if token.id == token_id:
            return token
    raise NoSuchThing(what="API token", name=token_id[:40])


ROUTES = [
    page("/tokens", show),
    page("/tokens/new", ask_for_new),
    action("/tokens/new", create),
    page("/tokens/{id}/revoke", ask_to_revoke),
    action("/tokens/{id}/revoke", revoke),
]
