"""Who calls: the bearer of a token, or an administrator with a certificate."""

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import StringConstraints

from services.errors import SignInRequired
from services.license_server.actor import SCOPES, Actor
from services.license_server.services import Services
from services.web.peer_certificate import certificate_of, peer_in

ADMIN_ROLE = "admin"

_bearer = HTTPBearer(auto_error=False, description="An API token: swl_...")


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _caller(
    request: Request,
    services: Annotated[Services, Depends(_services)],
    shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Actor:
    address = request.client.host if request.client else ""
    if shown is not None:
        return services.tokens.actor_of(shown.credentials, address)
    if certificate_of(request.scope) is None:
        raise SignInRequired(problem="neither a token nor a certificate was shown")
    peer = peer_in(request.scope)
    if peer.role != ADMIN_ROLE:
        raise SignInRequired(problem=f"{peer.name} has the role {peer.role}, not {ADMIN_ROLE}")
    return Actor("certificate", peer.name, frozenset(SCOPES), address)


TheServices = Annotated[Services, Depends(_services)]
Caller = Annotated[Actor, Depends(_caller)]

# No control characters: PostgreSQL cannot store NUL, and nobody means the others.
Text = Annotated[str, StringConstraints(max_length=2_000, pattern=r"^[^\x00-\x1f\x7f]*$")]
ANSWERED: dict[int | str, dict[str, Any]] = {204: {"description": "Done."}}
