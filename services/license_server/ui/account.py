"""What everybody does for himself: password and second factor."""

import io

from markupsafe import Markup
from starlette.responses import Response

from services.license_server.ui.gate import action, page
from services.license_server.ui.sign_in import require_same
from services.license_server.ui.visit import Visit


def show(visit: Visit) -> Response:
    return visit.render("account.html")


def change_password(visit: Visit) -> Response:
    password = visit.secret("password")
    require_same(password, visit.secret("again"))
    visit.office.accounts.change_password(visit.actor, visit.secret("current"), password)
    return visit.to_sign_in("Your password is changed. Sign in with the new one.")


def ask_for_code(visit: Visit) -> Response:
    """The secret goes on in the form; it is stored when a code shows that the app has it."""
    secret, address = visit.office.accounts.new_totp(visit.actor)
    return visit.render("totp_on.html", secret=secret, picture=_qr(address))


def turn_on(visit: Visit) -> Response:
    code = visit.text("code").replace(" ", "")
    visit.office.accounts.enable_totp(visit.actor, visit.text("secret"), code, visit.secret("current"))
    return visit.go("/account", "From now on signing in needs a code of your app as well.")


def ask_to_turn_off(visit: Visit) -> Response:
    return visit.render("totp_off.html")


def turn_off(visit: Visit) -> Response:
    visit.office.accounts.disable_totp(visit.actor, visit.secret("current"))
    return visit.go("/account", "Signing in needs the password alone now.")


def _qr(address: str) -> Markup:
    import segno  # noqa: PLC0415  # for this one page

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
