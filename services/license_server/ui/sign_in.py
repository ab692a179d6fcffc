"""Pages around sessions: setup of the first administrator, sign-in, sign-out, and the server's health."""

from starlette.responses import Response

from services.errors import AdminError, CodeNeeded, SignInRequired
from services.license_server.ui.page_request import PageRequest, own_path
from services.license_server.ui.routing import action, page


def show_setup(request: PageRequest) -> Response:
    request.services.accounts.check_setup(request.path("secret"))
    return request.render("setup.html", secret=request.path("secret"))


def set_up(request: PageRequest) -> Response:
    name, password = request.text("name"), request.secret("password")
    require_same(password, request.secret("again"))
    accounts = request.services.accounts
    accounts.set_up(request.path("secret"), name, password, request.address)
    session = accounts.sign_in(name, password, "", request.address, request.request.headers.get("User-Agent", ""))
    return request.keep_session(request.go("/", f"Welcome, {name}. This server is yours now."), session)


def show_sign_in(request: PageRequest) -> Response:
    if request.services.accounts.needs_setup():
        return request.render("not_set_up.html")
    try:
        request.sign_in_by_cookie(active=True)
    except SignInRequired:
        return request.render("sign_in.html", next=own_path(request.query("next")), name="", code_needed=False)
    return request.go(own_path(request.query("next")))


def sign_in(request: PageRequest) -> Response:
    """Never sends a right password back: if a code is needed too, its field is added to the existing form."""
    name, code, where = (
        request.text("name"),
        request.text("code").replace(" ", ""),
        own_path(request.text("next")),
    )
    agent = request.request.headers.get("User-Agent", "")
    try:
        session = request.services.accounts.sign_in(name, request.secret("password"), code, request.address, agent)
    except CodeNeeded:
        if request.htmx:
            response = request.render("sign_in_code.html")
            response.headers["HX-Retarget"] = "#code"
            return response
        return request.render("sign_in.html", 401, next=where, name=name, code_needed=True)
    return request.keep_session(request.go(where), session)


def sign_out(request: PageRequest) -> Response:
    request.services.accounts.sign_out(request.session_secret, request.address)
    return request.to_sign_in("You are signed out.")


def show_health(request: PageRequest) -> Response:
    health, certificate = request.services.health(), request.services.tls.current()
    return request.render("health.html", health=health, certificate=certificate)


def require_same(password: str, again: str) -> None:
    """Raises AdminError."""
    if password != again:
        raise AdminError(problem="The two passwords differ")


ROUTES = [
    page("/setup/{secret}", show_setup, public=True),
    action("/setup/{secret}", set_up, public=True),
    page("/sign-in", show_sign_in, public=True),
    action("/sign-in", sign_in, public=True),
    action("/sign-out", sign_out),
    page("/health", show_health, public=True),
]
