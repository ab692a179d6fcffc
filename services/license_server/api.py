"""The API that nodes lease from. Every path wants a client certificate; a browser UI will not."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from services.errors import LicenceError, SwarmError
from services.identity.identity import PeerIdentity
from services.license_server.desk import LicenseDesk
from services.license_server.leases import Holder
from services.license_server.peer_certificate import require_peer
from services.runtime import logs

_HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 409,
    "FAILED_PRECONDITION": 409,
}

_log = logs.get("license-server")


class AcquireRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    feature: str = Field(max_length=64)


class RenewRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: int


class LeaseReply(BaseModel):
    lease: str
    token: int
    expires_in_s: float
    capacity: int


class RenewReply(BaseModel):
    expires_in_s: float


class FeatureStatus(BaseModel):
    capacity: int
    in_use: int
    holders: list[str]


class StatusReply(BaseModel):
    features: dict[str, FeatureStatus]


def build_app(desk: LicenseDesk) -> FastAPI:
    """The application over one desk. Handlers are plain functions: the database is waited for in threads."""
    app = FastAPI(title="Swarm license server", docs_url=None, redoc_url=None, openapi_url=None)
    app.exception_handler(SwarmError)(_answer_swarm_error)
    app.exception_handler(RequestValidationError)(_answer_malformed)

    @app.post("/v1/leases")
    def acquire(request: AcquireRequest, holder: Caller) -> LeaseReply:
        lease, capacity = desk.acquire(holder, request.feature)
        return LeaseReply(lease=lease.id, token=lease.token, expires_in_s=desk.ttl_s, capacity=capacity)

    @app.post("/v1/leases/{lease_id}/renew")
    def renew(lease_id: str, request: RenewRequest, holder: Caller) -> RenewReply:
        desk.renew(holder, lease_id, request.token)
        return RenewReply(expires_in_s=desk.ttl_s)

    @app.delete("/v1/leases/{lease_id}", status_code=204)
    def release(lease_id: str, token: int, holder: Caller) -> Response:
        desk.release(holder, lease_id, token)
        return Response(status_code=204)

    @app.get("/v1/status")
    def status(_holder: Caller) -> StatusReply:
        found = {
            feature: FeatureStatus(capacity=capacity, in_use=len(holders), holders=holders)
            for feature, (capacity, holders) in desk.status().items()
        }
        return StatusReply(features=found)

    return app


def _caller(peer: Annotated[PeerIdentity, Depends(require_peer)]) -> Holder:
    return Holder(role=peer.role, name=peer.name, fingerprint=peer.fingerprint)


Caller = Annotated[Holder, Depends(_caller)]


def _answer_swarm_error(request: Request, error: SwarmError) -> JSONResponse:
    _log.warning("refused", path=request.url.path, code=error.code, why=str(error))
    return _answer(request, error, _HTTP_STATUS.get(error.grpc_status, 500))


def _answer_malformed(request: Request, malformed: RequestValidationError) -> JSONResponse:
    first = malformed.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _answer(request, LicenceError(feature="this request", problem=f"{where}: {first['msg']}"), 422)


def _answer(request: Request, error: SwarmError, status: int) -> JSONResponse:
    """Code and facts let the client raise the same class; the message is for whoever reads the answer itself."""
    complete = type(error)(**{"address": request.url.netloc, **error.facts})
    content: dict[str, Any] = {
        "code": complete.code,
        "message": str(complete),
        "facts": jsonable_encoder(complete.facts),
    }
    return JSONResponse(content, status_code=status)
