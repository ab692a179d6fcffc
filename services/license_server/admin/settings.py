"""The audit log, settings, backups, webhooks, and the server itself."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.license_server.admin.caller import ANSWERED, Caller, Text, TheServices
from services.license_server.audit_log import AuditEntry, Verdict
from services.license_server.server_settings import Values
from services.license_server.webhooks import Delivery

router = APIRouter()

BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
BINARY = {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}}


class SettingsView(BaseModel):
    """``webhook_secret`` is never shown; ``webhook_secret_set`` says whether there is one."""

    lease_s: int
    grace_h: float
    session_min: int
    session_max_h: int
    keep_days: int
    expiry_warning_days: int
    webhook_url: str
    webhook_secret_set: bool
    webhook_denials: bool
    webhook_expiries: bool
    lock_code: str

    @classmethod
    def of(cls, values: Values, lock_code: str) -> "SettingsView":
        shown = {name: getattr(values, name) for name in cls.model_fields if hasattr(values, name)}
        return cls(**shown, webhook_secret_set=bool(values.webhook_secret), lock_code=lock_code)


class SettingsChange(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    lease_s: int | None = None
    grace_h: float | None = Field(None, allow_inf_nan=False)
    session_min: int | None = None
    session_max_h: int | None = None
    keep_days: int | None = None
    expiry_warning_days: int | None = None
    webhook_url: Text | None = None
    webhook_secret: Text | None = None
    webhook_denials: bool | None = None
    webhook_expiries: bool | None = None


class ServerState(BaseModel):
    state: str
    version: str
    database: str
    clock_turned_back_s: float


@router.get("/server")
def server(services: TheServices, caller: Caller) -> ServerState:
    caller.require("licenses:read")
    health = services.health()
    return ServerState(
        state=health.state,
        version=health.version,
        database=health.database,
        clock_turned_back_s=health.clock_turned_back_s,
    )


@router.get("/audit")
def audit(
    services: TheServices,
    caller: Caller,
    *,
    search: Text = "",
    action: Text = "",
    before: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[AuditEntry]:
    """Newest first."""
    return services.audit.all(caller, search=search, action=action, before=before, limit=limit)


@router.get("/audit/verify")
def verify(services: TheServices, caller: Caller) -> Verdict:
    """Checks the hash chain of the audit log."""
    return services.audit.verify(caller)


@router.get("/settings")
def settings(services: TheServices, caller: Caller) -> SettingsView:
    caller.require("settings:read")
    return SettingsView.of(services.settings.values(), services.settings.lock_code())


@router.patch("/settings")
def change_settings(services: TheServices, caller: Caller, change: SettingsChange) -> SettingsView:
    """Changes only the settings that are given."""
    given = {name: value for name, value in change.model_dump(exclude_unset=True).items() if value is not None}
    return SettingsView.of(services.settings.change(caller, **given), services.settings.lock_code())


@router.post("/clock/trust", status_code=204, responses=ANSWERED)
def trust_clock(services: TheServices, caller: Caller) -> Response:
    """Trusts the system clock again for license dates, after it was once set wrong."""
    services.settings.trust_wall_clock(caller)
    return Response(status_code=204)


@router.get("/backup", response_class=Response, responses={200: BINARY})
def make_backup(services: TheServices, caller: Caller) -> Response:
    """A consistent snapshot, made while nodes keep running. It contains password hashes and TOTP secrets: keep it
    safe.
    """
    content = services.backup.make(caller)
    headers = {"Content-Disposition": f'attachment; filename="{services.backup.name()}"'}
    return Response(content, media_type="application/gzip", headers=headers)


@router.post(
    "/backup/restore",
    status_code=204,
    responses=ANSWERED,
    openapi_extra={"requestBody": {"required": True, **BYTES}},
)
async def restore(request: Request, services: TheServices, caller: Caller) -> Response:
    """Restores the backup in the body, and signs out all users."""
    content = await request.body()
    await asyncio.to_thread(services.backup.restore, caller, content)
    return Response(status_code=204)


@router.get("/webhooks")
def webhooks(services: TheServices, caller: Caller) -> list[Delivery]:
    """The last deliveries, newest first."""
    return services.webhooks.all(caller)


@router.post("/webhooks/test", status_code=204, responses=ANSWERED)
def test_webhook(services: TheServices, caller: Caller) -> Response:
    services.webhooks.test(caller)
    return Response(status_code=204)
