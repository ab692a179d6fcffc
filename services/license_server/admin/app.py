"""Puts the REST API together: /api/v1, described by OpenAPI."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from services.errors import AdminError, SwarmError
from services.license_server.admin import seats, settings, users
from services.license_server.services import Services
from services.runtime import logs
from services.web.answers import ErrorAnswer, error_content, status_of

_log = logs.get("license-server")

_ERRORS = {
    400: "The request cannot be carried out.",
    401: "The token or certificate is missing or invalid.",
    403: "A scope is missing.",
    404: "Not found.",
    409: "The request conflicts with the current state.",
    413: "The request is too large.",
    422: "The request is malformed.",
    429: "Too many requests, or sign-in is locked.",
}


def build_admin(services: Services) -> FastAPI:
    """The application over one set of services. Handlers are plain functions, so they wait for the
    database in threads.
    """
    app = FastAPI(
        title="Swarm license server",
        version="1",
        description="Authenticate with `Authorization: Bearer TOKEN` or the client certificate of an administrator.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        redirect_slashes=False,
        responses={status: {"model": ErrorAnswer, "description": why} for status, why in _ERRORS.items()},
    )
    app.state.services = services
    app.exception_handler(SwarmError)(_answer_swarm_error)
    app.exception_handler(RequestValidationError)(_answer_malformed)
    app.exception_handler(HTTPException)(_answer_http_error)
    for router in (seats.router, settings.router, users.router):
        app.include_router(router, prefix="/api/v1")
    return app


def _answer_swarm_error(request: Request, error: SwarmError) -> JSONResponse:
    _log.warning("refused", path=request.url.path, code=error.code, why=str(error))
    headers = {"WWW-Authenticate": "Bearer"} if status_of(error) == 401 else {}
    return JSONResponse(error_content(error, request.url.netloc), status_of(error), headers)


def _answer_malformed(request: Request, malformed: RequestValidationError) -> JSONResponse:
    first = malformed.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse(error_content(AdminError(problem=f"{where}: {first['msg']}"), request.url.netloc), 422)


def _answer_http_error(request: Request, error: HTTPException) -> JSONResponse:
    content = error_content(AdminError(problem=str(error.detail)), request.url.netloc)
    return JSONResponse(content, error.status_code, error.headers)
