"""Settings, backup and restore, the webhook, and the server's certificate."""

from starlette.responses import Response

from services.errors import AdminError, BackupUnusable
from services.license_server.ui.gate import action, page
from services.license_server.ui.pools import whole_number
from services.license_server.ui.visit import Visit


def show(visit: Visit) -> Response:
    office, actor = visit.office, visit.actor
    actor.require("settings:read")
    return visit.render(
        "settings.html",
        values=office.settings.values(),
        lock_code=office.settings.lock_code(),
        deliveries=office.webhooks.all(actor, 10),
        certificate=office.tls.current(),
        health=office.health(),
    )


def change_leases(visit: Visit) -> Response:
    visit.office.settings.change(
        visit.actor,
        lease_s=whole_number(visit.text("lease_s"), "Lease time"),
        grace_h=_number(visit.text("grace_h"), "Grace period"),
        expiry_warning_days=whole_number(visit.text("expiry_warning_days"), "Warning before the end"),
        keep_days=whole_number(visit.text("keep_days"), "History"),
    )
    return visit.go("/settings#leases", "Saved. Nodes learn of it at their next renewal.")


def change_sessions(visit: Visit) -> Response:
    visit.office.settings.change(
        visit.actor,
        session_min=whole_number(visit.text("session_min"), "Idle time"),
        session_max_h=whole_number(visit.text("session_max_h"), "Longest session"),
    )
    return visit.go("/settings#sessions", "Saved.")


def change_webhook(visit: Visit) -> Response:
    """The secret stays as it is where none is given."""
    secret = visit.secret("webhook_secret")
    visit.office.settings.change(
        visit.actor,
        webhook_url=visit.text("webhook_url"),
        webhook_denials=bool(visit.text("webhook_denials")),
        webhook_expiries=bool(visit.text("webhook_expiries")),
        **({"webhook_secret": secret} if secret else {}),
    )
    return visit.go("/settings#webhook", "Saved.")


def test_webhook(visit: Visit) -> Response:
    if not visit.office.settings.values().webhook_url:
        raise AdminError(problem="There is no address to send it to")
    visit.office.webhooks.test(visit.actor)
    return visit.go("/settings#webhook", "A test message is on its way.")


def make_backup(visit: Visit) -> Response:
    content = visit.office.backup.make(visit.actor)
    headers = {"Content-Disposition": f'attachment; filename="{visit.office.backup.name()}"'}
    return Response(content, media_type="application/gzip", headers=headers)


def ask_for_backup(visit: Visit) -> Response:
    visit.actor.require("backup:write")
    return visit.render("settings_restore.html")


def restore(visit: Visit) -> Response:
    file = visit.file("file")
    if not file:
        raise BackupUnusable(problem="no file was chosen")
    visit.office.backup.restore(visit.actor, file)
    return visit.to_sign_in("The backup is restored. Sign in with an account that it holds.")


def ask_for_certificate(visit: Visit) -> Response:
    visit.actor.require("settings:write")
    return visit.render("settings_tls.html")


def replace_certificate(visit: Visit) -> Response:
    visit.office.tls.replace(visit.actor, visit.file("certificate"), visit.file("key"))
    return visit.go("/settings#tls", "New connections use the new certificate.")


def trust_clock(visit: Visit) -> Response:
    visit.office.settings.trust_wall_clock(visit.actor)
    return visit.go("/settings#clock", "Dates count from the clock of this host again.")


def _number(text: str, what: str) -> float:
    """Raises AdminError."""
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        raise AdminError(problem=f"{what}: {text[:40]!r} is not a number") from None
    if not 0 <= number < 1e6:
        raise AdminError(problem=f"{what}: {text[:40]!r} is not a possible number")
    return number


ROUTES = [
    page("/settings", show),
    action("/settings/leases", change_leases),
    action("/settings/sessions", change_sessions),
    action("/settings/webhook", change_webhook),
    action("/settings/webhook/test", test_webhook),
    action("/settings/backup", make_backup),
    page("/settings/restore", ask_for_backup),
    action("/settings/restore", restore),
    page("/settings/certificate", ask_for_certificate),
    action("/settings/certificate", replace_certificate),
    action("/settings/clock", trust_clock),
]
