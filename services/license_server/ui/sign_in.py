"""Before there is a session: the first administrator, signing in and out, and whether the server is well."""

from starlette.responses import Response

from services.errors import AdminError, CodeNeeded, SignInRequired
from services.license_server.ui.gate import action, page
from services.license_server.ui.visit import Visit, own_path


def show_setup(visit: Visit) -> Response:
    visit.office.accounts.check_setup(visit.path("secret"))
    return visit.render("setup.html", secret=visit.path("secret"))


def set_up(visit: Visit) -> Response:
    name, password = visit.text("name"), visit.secret("password")
    require_same(password, visit.secret("again"))
    accounts = visit.office.accounts
    accounts.set_up(visit.path("secret"), name, password, visit.address)
    session = accounts.sign_in(name, password, "", visit.address, visit.request.headers.get("User-Agent", ""))
    return visit.keep_session(visit.go("/", f"Welcome, {name}. This server is yours now."), session)


def show_sign_in(visit: Visit) -> Response:
    if visit.office.accounts.needs_setup():
        return visit.render("not_set_up.html")
    try:
        visit.sign_in_by_cookie(active=True)
    except SignInRequired:
        return visit.render("sign_in.html", next=own_path(visit.query("next")), name="", code_needed=False)
    return visit.go(own_path(visit.query("next")))


def sign_in(visit: Visit) -> Response:
    """A password that was right is never sent back: where a code is needed too, its field joins the form as it is."""
    name, code, where = visit.text("name"), visit.text("code").replace(" ", ""), own_path(visit.text("next"))
    agent = visit.request.headers.get("User-Agent", "")
    try:
        session = visit.office.accounts.sign_in(name, visit.secret("password"), code, visit.address, agent)
    except CodeNeeded:
        if visit.htmx:
            response = visit.render("sign_in_code.html")
            response.headers["HX-Retarget"] = "#code"
            return response
        return visit.render("sign_in.html", 401, next=where, name=name, code_needed=True)
    return visit.keep_session(visit.go(where), session)


def sign_out(visit: Visit) -> Response:
    visit.office.accounts.sign_out(visit.session_secret, visit.address)
    return visit.to_sign_in("You are signed out.")


def show_health(visit: Visit) -> Response:
    health, certificate = visit.office.health(), visit.office.tls.current()
    return visit.render("health.html", health=health, certificate=certificate)


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
