"""Licenses: what is installed, a new one looked at before it is accepted, and whose signatures count."""

import base64
import binascii

from starlette.responses import Response

from services.errors import LicenseUnreadable
from services.license_server.ui.gate import action, page
from services.license_server.ui.visit import Visit
from services.licensing import license_file


def show(visit: Visit) -> Response:
    office, actor = visit.office, visit.actor
    return visit.render(
        "licenses.html",
        licenses=office.licenses.all(actor),
        issuers=office.licenses.issuers(actor),
        lock_code=office.settings.lock_code(),
    )


def show_one(visit: Visit) -> Response:
    license = visit.office.licenses.get(visit.actor, visit.path("id"))
    names = {issuer.key_id: issuer.name for issuer in visit.office.licenses.issuers(visit.actor)}
    return visit.render("license.html", license=license, issuer_name=names.get(license.key_id, ""))


def ask_for_file(visit: Visit) -> Response:
    visit.actor.require("licenses:write")
    issuers = visit.office.licenses.issuers(visit.actor)
    return visit.render("license_install.html", issuers=issuers, lock_code=visit.office.settings.lock_code())


def preview(visit: Visit) -> Response:
    """Nothing is kept here: the file goes on in the form that accepts it."""
    visit.actor.require("licenses:write")
    file = _bounded(visit.file("file"))
    found = visit.office.licenses.preview(visit.actor, file)
    response = visit.render("license_preview.html", preview=found, file=base64.b64encode(file).decode())
    if visit.htmx:
        response.headers["HX-Retarget"] = "#preview"
    return response


def install(visit: Visit) -> Response:
    try:
        file = base64.b64decode(visit.text("content"), validate=True)
    except (binascii.Error, ValueError):
        raise LicenseUnreadable(problem="it was damaged on its way") from None
    license = visit.office.licenses.install(visit.actor, _bounded(file))
    seats = ", ".join(f"{grant.capacity} {grant.feature}" for grant in license.grants)
    return visit.go("/licenses", f"License {license.id} is installed: {seats}.")


def ask_to_remove(visit: Visit) -> Response:
    visit.actor.require("licenses:write")
    return visit.render("license_remove.html", license=visit.office.licenses.get(visit.actor, visit.path("id")))


def remove(visit: Visit) -> Response:
    license_id = visit.path("id")
    visit.office.licenses.remove(visit.actor, license_id)
    return visit.go("/licenses", f"License {license_id} is removed.")


def ask_for_key(visit: Visit) -> Response:
    visit.actor.require("settings:write")
    return visit.render("issuer_trust.html")


def trust(visit: Visit) -> Response:
    key = visit.file("file") or visit.text("key").encode()
    issuer = visit.office.licenses.trust(visit.actor, visit.text("name"), _bounded(key))
    return visit.go("/licenses", f"Licenses that {issuer.name} signed can be installed now.")


def ask_to_distrust(visit: Visit) -> Response:
    visit.actor.require("settings:write")
    office, key_id = visit.office, visit.path("key_id")
    issuer = next((one for one in office.licenses.issuers(visit.actor) if one.key_id == key_id), None)
    if issuer is None:
        return visit.go("/licenses", "That issuer is not trusted any more.")
    signed = [license for license in office.licenses.all(visit.actor) if license.key_id == key_id]
    return visit.render("issuer_distrust.html", issuer=issuer, signed=signed)


def distrust(visit: Visit) -> Response:
    visit.office.licenses.distrust(visit.actor, visit.path("key_id"))
    return visit.go("/licenses", "The key is not trusted any more.")


def _bounded(file: bytes) -> bytes:
    if not file:
        raise LicenseUnreadable(problem="no file was chosen")
    if len(file) > license_file.MAX_BYTES:
        raise LicenseUnreadable(problem=f"it is larger than {license_file.MAX_BYTES} bytes")
    return file


ROUTES = [
    page("/licenses", show),
    page("/licenses/install", ask_for_file),
    action("/licenses/preview", preview),
    action("/licenses/install", install),
    page("/licenses/{id}", show_one),
    page("/licenses/{id}/remove", ask_to_remove),
    action("/licenses/{id}/remove", remove),
    page("/issuers/trust", ask_for_key),
    action("/issuers/trust", trust),
    page("/issuers/{key_id}/distrust", ask_to_distrust),
    action("/issuers/{key_id}/distrust", distrust),
]
