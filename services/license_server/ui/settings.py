"""Settings, backup and restore, the webhook, and the server's certificate."""

from starlette.responses import Response

from services.errors import AdminError, BackupUnusable
from services.license_server.ui.page_request import PageRequest
from services.license_server.ui.pools import whole_number
from services.license_server.ui.routing import action, page


def show(request: PageRequest) -> Response:
    services, actor = request.services, request.actor
    actor.require("settings:read")
    return request.render(
        "settings.html",
        values=services.settings.values(),
        lock_code=services.settings.lock_code(),
        deliveries=services.webhooks.all(actor, 10),
        certificate=services.tls.current(),
        health=services.health(),
    )


def change_leases(request: PageRequest) -> Response:
    request.services.settings.change(
        request.actor,
        lease_s=whole_number(request.text("lease_s"), "Lease time"),
        grace_h=_number(request.text("grace_h"), "Grace period"),
        expiry_warning_days=whole_number(request.text("expiry_warning_days"), "Warning before the end"),
        keep_days=whole_number(request.text("keep_days"), "History"),
    )
    return request.go("/settings#leases", "Saved. Nodes learn of it at their next renewal.")


def change_sessions(request: PageRequest) -> Response:
    request.services.settings.change(
        request.actor,
        session_min=whole_number(request.text("session_min"), "Idle time"),
        session_max_h=whole_number(request.text("session_max_h"), "Longest session"),
    )
    return request.go("/settings#sessions", "Saved.")


def change_webhook(request: PageRequest) -> Response:
    """Without a new secret, the old one stays."""
    secret = request.secret("webhook_secret")
    request.services.settings.change(
        request.actor,
        webhook_url=request.text("webhook_url"),
        webhook_denials=bool(request.text("webhook_denials")),
        webhook_expiries=bool(request.text("webhook_expiries")),
        **({"webhook_secret": secret} if secret else {}),
    )
    return request.go("/settings#webhook", "Saved.")


def test_webhook(request: PageRequest) -> Response:
    if not request.services.settings.values().webhook_url:
        raise AdminError(problem="There is no address to send it to")
    request.services.webhooks.test(request.actor)
    return request.go("/settings#webhook", "A test message is on its way.")


def make_backup(request: PageRequest) -> Response:
    content = request.services.backup.make(request.actor)
    headers = {"Content-Disposition": f'attachment; filename="{request.services.backup.name()}"'}
    return Response(content, media_type="application/gzip", headers=headers)


def ask_for_backup(request: PageRequest) -> Response:
    request.actor.require("backup:write")
    return request.render("settings_restore.html")


def restore(request: PageRequest) -> Response:
    file = request.file("file")
    if not file:
        raise BackupUnusable(problem="no file was chosen")
    request.services.backup.restore(request.actor, file)
    return request.to_sign_in("The backup is restored. Sign in with an account that it holds.")


def ask_for_certificate(request: PageRequest) -> Response:
    request.actor.require("settings:write")
    return request.render("settings_tls.html")


def replace_certificate(request: PageRequest) -> Response:
    request.services.tls.replace(request.actor, request.file("certificate"), request.file("key"))
    return request.go("/settings#tls", "New connections use the new certificate.")


def trust_clock(request: PageRequest) -> Response:
    request.services.settings.trust_wall_clock(request.actor)
    return request.go("/settings#clock", "Dates count from the clock of this host again.")


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
