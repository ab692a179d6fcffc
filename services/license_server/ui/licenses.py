"""Licenses: those installed, a preview of new ones, and whose signatures are trusted."""

import base64
import binascii

from starlette.responses import Response

from services.errors import LicenseUnreadable
from services.license_server.ui.page_request import PageRequest
from services.license_server.ui.routing import action, page
from services.licensing import license_file


def show(request: PageRequest) -> Response:
    services, actor = request.services, request.actor
    return request.render(
        "licenses.html",
        licenses=services.licenses.all(actor),
        issuers=services.licenses.issuers(actor),
        lock_code=services.settings.lock_code(),
    )


def show_one(request: PageRequest) -> Response:
    license = request.services.licenses.get(request.actor, request.path("id"))
    names = {issuer.key_id: issuer.name for issuer in request.services.licenses.issuers(request.actor)}
    return request.render("license.html", license=license, issuer_name=names.get(license.key_id, ""))


def ask_for_file(request: PageRequest) -> Response:
    request.actor.require("licenses:write")
    issuers = request.services.licenses.issuers(request.actor)
    return request.render("license_install.html", issuers=issuers, lock_code=request.services.settings.lock_code())


def preview(request: PageRequest) -> Response:
    """Stores nothing: the form for acceptance carries the file on."""
    request.actor.require("licenses:write")
    file = _bounded(request.file("file"))
    found = request.services.licenses.preview(request.actor, file)
    response = request.render("license_preview.html", preview=found, file=base64.b64encode(file).decode())
    if request.htmx:
        response.headers["HX-Retarget"] = "#preview"
    return response


def install(request: PageRequest) -> Response:
    try:
        file = base64.b64decode(request.text("content"), validate=True)
    except (binascii.Error, ValueError):
        raise LicenseUnreadable(problem="it was damaged on its way") from None
    license = request.services.licenses.install(request.actor, _bounded(file))
    seats = ", ".join(f"{grant.capacity} {grant.feature}" for grant in license.grants)
    return request.go("/licenses", f"License {license.id} is installed: {seats}.")


def ask_to_remove(request: PageRequest) -> Response:
    request.actor.require("licenses:write")
    return request.render(
        "license_remove.html", license=request.services.licenses.get(request.actor, request.path("id"))
    )


def remove(request: PageRequest) -> Response:
    license_id = request.path("id")
    request.services.licenses.remove(request.actor, license_id)
    return request.go("/licenses", f"License {license_id} is removed.")


def ask_for_key(request: PageRequest) -> Response:
    request.actor.require("settings:write")
    return request.render("issuer_trust.html")


def trust(request: PageRequest) -> Response:
    key = request.file("file") or request.text("key").encode()
    issuer = request.services.licenses.trust(request.actor, request.text("name"), _bounded(key))
    return request.go("/licenses", f"Licenses that {issuer.name} signed can be installed now.")


def ask_to_distrust(request: PageRequest) -> Response:
    request.actor.require("settings:write")
    services, key_id = request.services, request.path("key_id")
    issuer = next((one for one in services.licenses.issuers(request.actor) if one.key_id == key_id), None)
    if issuer is None:
        return request.go("/licenses", "That issuer is not trusted any more.")
    signed = [license for license in services.licenses.all(request.actor) if license.key_id == key_id]
    return request.render("issuer_distrust.html", issuer=issuer, signed=signed)


def distrust(request: PageRequest) -> Response:
    request.services.licenses.distrust(request.actor, request.path("key_id"))
    return request.go("/licenses", "The key is not trusted any more.")


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
