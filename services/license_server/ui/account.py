"""What users change for themselves: password and second factor."""

import io

from markupsafe import Markup
from starlette.responses import Response

from services.license_server.ui.page_request import PageRequest
from services.license_server.ui.routing import action, page
from services.license_server.ui.sign_in import require_same


def show(request: PageRequest) -> Response:
    return request.render("account.html")


def change_password(request: PageRequest) -> Response:
    password = request.secret("password")
    require_same(password, request.secret("again"))
    request.services.accounts.change_password(request.actor, request.secret("current"), password)
    return request.to_sign_in("Your password is changed. Sign in with the new one.")


def ask_for_code(request: PageRequest) -> Response:
    """The form carries the secret on; it is stored once a code shows that the app has it."""
    secret, address = request.services.accounts.new_totp(request.actor)
    return request.render("totp_on.html", secret=secret, picture=_qr(address))


def turn_on(request: PageRequest) -> Response:
    code = request.text("code").replace(" ", "")
    request.services.accounts.enable_totp(request.actor, request.text("secret"), code, request.secret("current"))
    return request.go("/account", "From now on signing in needs a code of your app as well.")


def ask_to_turn_off(request: PageRequest) -> Response:
    return request.render("totp_off.html")


def turn_off(request: PageRequest) -> Response:
    request.services.accounts.disable_totp(request.actor, request.secret("current"))
    return request.go("/account", "Signing in needs the password alone now.")


def _qr(address: str) -> Markup:
    import segno  # noqa: PLC0415  # only for this page

    out = io.BytesIO()
    segno.make(address, error="m").save(
        out, kind="svg", xmldecl=False, svgclass="qr", lineclass="qr-dark", omitsize=True, border=3, light=None
    )
    return Markup(out.getvalue().decode())  # noqa: S704  # squares, drawn by the library


ROUTES = [
    page("/account", show),
    action("/account/password", change_password),
    page("/account/code", ask_for_code),
    action("/account/code", turn_on),
    page("/account/code/off", ask_to_turn_off),
    action("/account/code/off", turn_off),
]
