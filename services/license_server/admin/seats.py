"""Licenses, pools, leases, and how they were used."""

import base64
import binascii
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from services.errors import LicenseUnreadable
from services.license_server.admin.caller import ANSWERED, Caller, Text, TheServices
from services.license_server.expulsions import Expulsion
from services.license_server.lease_admin import LeaseView, Order, Revocation
from services.license_server.licenses import InstalledLicense, Issuer, Preview
from services.license_server.pools import PoolView
from services.license_server.usage import Checkout, Denial, UsagePoint

router = APIRouter()

Number = Annotated[int, Path(ge=1, lt=2**31)]
Name = Annotated[str, Path(max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]
Since = Annotated[datetime | None, Query(description="Default: a week before `until`. UTC unless it has a time zone.")]
Until = Annotated[datetime | None, Query(description="Default: now. UTC unless it has a time zone.")]
Limit = Annotated[int, Query(ge=1, le=10_000)]
EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class LicenseUpload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    file: str = Field(max_length=128 * 1024, description="The license file, in base64.")

    def content(self) -> bytes:
        """Raises LicenseUnreadable."""
        try:
            return base64.b64decode(self.file, validate=True)
        except (binascii.Error, ValueError):
            raise LicenseUnreadable(problem="it is not base64") from None


class IssuerToTrust(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text
    public_key: str = Field(max_length=4_096, description="Ed25519, in PEM form.")


class Restriction(BaseModel):
    model_config = ConfigDict(extra="forbid")

    allowed: list[Text] = Field(max_length=100, examples=[["hospital-a-*"]])


class ReservationToMake(BaseModel):
    model_config = ConfigDict(extra="forbid")

    clients: Text
    seats: int = Field(ge=1, le=1_000_000)


class Reason(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Text


# --- licenses ---


@router.get("/licenses")
def licenses(services: TheServices, caller: Caller) -> list[InstalledLicense]:
    return services.licenses.all(caller)


@router.post("/licenses/preview")
def preview(services: TheServices, caller: Caller, upload: LicenseUpload) -> Preview:
    """Shows what a license file contains and whether it could be installed. Installs nothing."""
    return services.licenses.preview(caller, upload.content())


@router.post("/licenses", status_code=201)
def install(services: TheServices, caller: Caller, upload: LicenseUpload) -> InstalledLicense:
    return services.licenses.install(caller, upload.content())


@router.delete("/licenses/{license_id}", status_code=204, responses=ANSWERED)
def remove(services: TheServices, caller: Caller, license_id: Name) -> Response:
    services.licenses.remove(caller, license_id)
    return Response(status_code=204)


@router.get("/issuers")
def issuers(services: TheServices, caller: Caller) -> list[Issuer]:
    return services.licenses.issuers(caller)


@router.post("/issuers", status_code=201)
def trust(services: TheServices, caller: Caller, issuer: IssuerToTrust) -> Issuer:
    return services.licenses.trust(caller, issuer.name, issuer.public_key.encode())


@router.delete("/issuers/{key_id}", status_code=204, responses=ANSWERED)
def distrust(services: TheServices, caller: Caller, key_id: Name) -> Response:
    services.licenses.distrust(caller, key_id)
    return Response(status_code=204)


# --- pools ---


@router.get("/pools")
def pools(services: TheServices, caller: Caller) -> list[PoolView]:
    return services.pools.all(caller)


@router.put("/pools/{feature}/allowed")
def restrict(services: TheServices, caller: Caller, feature: Name, restriction: Restriction) -> PoolView:
    return services.pools.restrict(caller, feature, restriction.allowed)


@router.post("/pools/{feature}/reservations", status_code=201)
def reserve(services: TheServices, caller: Caller, feature: Name, reservation: ReservationToMake) -> PoolView:
    return services.pools.reserve(caller, feature, reservation.clients, reservation.seats)


@router.delete("/reservations/{reservation_id}")
def unreserve(services: TheServices, caller: Caller, reservation_id: Number) -> PoolView:
    return services.pools.unreserve(caller, reservation_id)


# --- leases ---


@router.get("/leases")
def leases(
    services: TheServices,
    caller: Caller,
    *,
    feature: Text = "",
    search: Text = "",
    order: Order = "taken",
    descending: bool = True,
) -> list[LeaseView]:
    return services.leases.all(caller, feature=feature, search=search, order=order, descending=descending)


@router.get("/leases/{lease_id}")
def lease(services: TheServices, caller: Caller, lease_id: Name) -> LeaseView:
    return services.leases.get(caller, lease_id)


@router.post("/leases/{lease_id}/revoke")
def revoke(services: TheServices, caller: Caller, lease_id: Name, reason: Reason) -> LeaseView:
    """Ends the lease. The node stops after its round and gets no seat until it is readmitted."""
    return services.leases.revoke(caller, lease_id, reason.reason)


@router.get("/revocations")
def revocations(services: TheServices, caller: Caller) -> list[Revocation]:
    return services.leases.revocations(caller)


@router.delete("/revocations/{revocation_id}", status_code=204, responses=ANSWERED)
def readmit(services: TheServices, caller: Caller, revocation_id: Number) -> Response:
    services.leases.readmit(caller, revocation_id)
    return Response(status_code=204)


@router.get("/expulsions")
def expulsions(services: TheServices, caller: Caller) -> list[Expulsion]:
    return services.expulsions.all(caller)


@router.delete("/expulsions/{expulsion_id}", status_code=204, responses=ANSWERED)
def readmit_expelled(services: TheServices, caller: Caller, expulsion_id: Number) -> Response:
    """The node may take seats here again. In its swarm it stays expelled."""
    services.expulsions.readmit(caller, expulsion_id)
    return Response(status_code=204)


# --- usage ---


@router.get("/usage/checkouts.csv", response_class=StreamingResponse, responses={200: {"content": {"text/csv": {}}}})
def checkouts_csv(
    services: TheServices, caller: Caller, since: Since = None, until: Until = None, feature: Text = ""
) -> StreamingResponse:
    begin, end = _span(since, until)
    caller.require("usage:read")  # before the answer begins
    lines: Iterator[str] = services.usage.csv(caller, begin, end, feature)
    headers = {"Content-Disposition": "attachment; filename=checkouts.csv"}
    return StreamingResponse(lines, media_type="text/csv", headers=headers)


@router.get("/usage/checkouts")
def checkouts(
    services: TheServices,
    caller: Caller,
    *,
    since: Since = None,
    until: Until = None,
    feature: Text = "",
    node: Text = "",
    limit: Limit = 500,
) -> list[Checkout]:
    return services.usage.checkouts(caller, *_span(since, until), feature=feature, node=node, limit=limit)


@router.get("/usage/denials")
def denials(
    services: TheServices,
    caller: Caller,
    *,
    since: Since = None,
    until: Until = None,
    feature: Text = "",
    limit: Limit = 500,
) -> list[Denial]:
    return services.usage.denials(caller, *_span(since, until), feature=feature, limit=limit)


@router.get("/usage/{feature}")
def history(
    services: TheServices,
    caller: Caller,
    *,
    feature: Name,
    since: Since = None,
    until: Until = None,
    points: Annotated[int, Query(ge=1, le=2_000)] = 240,
) -> list[UsagePoint]:
    return services.usage.history(caller, feature, *_span(since, until), points)


def _span(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    end = _in_utc(until) if until else datetime.now(UTC)
    begin = _in_utc(since) if since else end - timedelta(days=7)
    return min(max(begin, EARLIEST), LATEST), min(max(end, EARLIEST), LATEST)


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
