"""Licences: what is installed, a new one looked at before it is accepted, and whose signatures count."""

import base64
import binascii

from starlette.responses import Response

from services.errors import LicenceUnreadable
from services.license_server.ui.gate import action, page
from services.license_server.ui.visit import Visit
from services.licensing import licence_file


def show(visit: Visit) -> Response:
    office, actor = visit.office, visit.actor
    return visit.render(
        "licences.html",
        licences=office.licences.all(actor),
        issuers=office.licences.issuers(actor),
        lock_code=office.settings.lock_code(),
    )


def show_one(visit: Visit) -> Response:
    licence = visit.office.licences.get(visit.actor, visit.path("id"))
    names = {issuer.key_id: issuer.name for issuer in visit.office.licences.issuers(visit.actor)}
    return visit.render("licence.html", licence=licence, issuer_name=names.get(licence.key_id, ""))


def ask_for_file(visit: Visit) -> Response:
    visit.actor.require("licences:write")
    issuers = visit.office.licences.issuers(visit.actor)
    return visit.render("licence_install.html", issuers=issuers, lock_code=visit.office.settings.lock_code())


def preview(visit: Visit) -> Response:
    """Nothing is kept here: the file goes on in the form that accepts it."""
    visit.actor.require("licences:write")
    file = _bounded(visit.file("file"))
    found = visit.office.licences.preview(visit.actor, file)
    response = visit.render("licence_preview.html", preview=found, file=base64.b64encode(file).decode())
    if visit.htmx:
        response.headers["HX-Retarget"] = "#preview"
    return response


def install(visit: Visit) -> Response:
    try:
        file = base64.b64decode(visit.text("content"), validate=True)
    except (binascii.Error, ValueError):
        raise LicenceUnreadable(problem="it was damaged on its way") from None
    licence = visit.office.licences.install(visit.actor, _bounded(file))
    seats = ", ".join(f"{grant.capacity} {grant.feature}" for grant in licence.grants)
    return visit.go("/licences", f"Licence {licence.id} is installed: {seats}.")


def ask_to_remove(visit: Visit) -> Response:
    visit.actor.require("licences:write")
    return visit.render("licence_remove.html", licence=visit.office.licences.get(visit.actor, visit.path("id")))


def remove(visit: Visit) -> Response:
    licence_id = visit.path("id")
    visit.office.licences.remove(visit.actor, licence_id)
    return visit.go("/licences", f"Licence {licence_id} is removed.")


def ask_for_key(visit: Visit) -> Response:
    visit.actor.require("settings:write")
    return visit.render("issuer_trust.html")


def trust(visit: Visit) -> Response:
    key = visit.file("file") or visit.text("key").encode()
    issuer = visit.office.licences.trust(visit.actor, visit.text("name"), _bounded(key))
    return visit.go("/licences", f"Licences that {issuer.name} signed can be installed now.")


def ask_to_distrust(visit: Visit) -> Response:
    visit.actor.require("settings:write")
    office, key_id = visit.office, visit.path("key_id")
    issuer = next((one for one in office.licences.issuers(visit.actor) if one.key_id == key_id), None)
    if issuer is None:
        return visit.go("/licences", "That issuer is not trusted any more.")
    signed = [licence for licence in office.licences.all(visit.actor) if licence.key_id == key_id]
    return visit.render("issuer_distrust.html", issuer=issuer, signed=signed)


def distrust(visit: Visit) -> Response:
    visit.office.licences.distrust(visit.actor, visit.path("key_id"))
    return visit.go("/licences", "The key is not trusted any more.")


def _bounded(file: bytes) -> bytes:
    if not file:
        raise LicenceUnreadable(problem="no file was chosen")
    if len(file) > licence_file.MAX_BYTES:
        raise LicenceUnreadable(problem=f"it is larger than {licence_file.MAX_BYTES} bytes")
    return file


ROUTES = [
    page("/licences", show),
    page("/licences/install", ask_for_file),
    action("/licences/preview", preview),
    action("/licences/install", install),
    page("/licences/{id}", show_one),
    page("/licences/{id}/remove", ask_to_remove),
    action("/licences/{id}/remove", remove),
    page("/issuers/trust", ask_for_key),
    action("/issuers/trust", trust),
    page("/issuers/{key_id}/distrust", ask_to_distrust),
    action("/issuers/{key_id}/distrust", distrust),
]
