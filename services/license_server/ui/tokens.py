"""API tokens: made, shown once, revoked."""

from starlette.responses import Response

from services.errors import NoSuchThing
from services.license_server.actor import SCOPES
from services.license_server.api_tokens import ApiToken
from services.license_server.ui.page_request import PageRequest
from services.license_server.ui.pools import whole_number
from services.license_server.ui.routing import action, page

DAYS = (7, 30, 90, 180, 366)


def show(request: PageRequest) -> Response:
    return request.render("tokens.html", tokens=request.services.tokens.all(request.actor))


def ask_for_new(request: PageRequest) -> Response:
    request.actor.require("tokens:write")
    return request.render("token_new.html", scopes=SCOPES, days=DAYS)


def create(request: PageRequest) -> Response:
    days = whole_number(request.text("days"), "Days")
    token, shown = request.services.tokens.create(request.actor, request.text("name"), request.texts("scope"), days)
    response = request.render("token_made.html", token=token, shown=shown)
    if request.htmx:
        response.headers["HX-Retarget"] = "#dialog"
    return response


def ask_to_revoke(request: PageRequest) -> Response:
    return request.render("token_revoke.html", token=_token(request))


def revoke(request: PageRequest) -> Response:
    token = _token(request)
    request.services.tokens.revoke(request.actor, token.id)
    return request.go("/tokens", f"The API token {token.name} is of no use any more.")


def _token(request: PageRequest) -> ApiToken:
    token_id = request.path("id")
    for token in request.services.tokens.all(request.actor):
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
