"""Users and API tokens."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from services.license_server.accounts import User
from services.license_server.actor import Role
from services.license_server.admin.caller import ANSWERED, Caller, Text, TheServices
from services.license_server.admin.seats import Name, Number
from services.license_server.api_tokens import ApiToken

router = APIRouter()

Password = Annotated[str, Field(max_length=256, json_schema_extra={"format": "password", "writeOnly": True})]


class UserToMake(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text
    password: Password
    role: Role


class UserChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    disabled: bool | None = None


class NewPassword(BaseModel):
    model_config = ConfigDict(extra="forbid")

    password: Password


class TokenToMake(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text
    scopes: list[Text] = Field(max_length=50)
    days: int = Field(ge=1, le=366)


class TokenMade(BaseModel):
    """``shown_once``: the token itself; only its hash is kept."""

    token: ApiToken
    shown_once: str


@router.get("/users")
def users(services: TheServices, caller: Caller) -> list[User]:
    return services.accounts.all(caller)


@router.post("/users", status_code=201)
def make(services: TheServices, caller: Caller, user: UserToMake) -> User:
    return services.accounts.create(caller, user.name, user.password, user.role)


@router.patch("/users/{user_id}")
def change(services: TheServices, caller: Caller, user_id: Number, change: UserChange) -> User:
    return services.accounts.change(caller, user_id, role=change.role, disabled=change.disabled)


@router.put("/users/{user_id}/password", status_code=204, responses=ANSWERED)
def set_password(services: TheServices, caller: Caller, user_id: Number, new: NewPassword) -> Response:
    """Also unlocks the user and ends all sessions of the user."""
    services.accounts.set_password(caller, user_id, new.password)
    return Response(status_code=204)


@router.delete("/users/{user_id}/locks", status_code=204, responses=ANSWERED)
def unlock(services: TheServices, caller: Caller, user_id: Number) -> Response:
    """The user can sign in from every address again, also from those with too many failures."""
    services.accounts.unlock(caller, user_id)
    return Response(status_code=204)


@router.delete("/users/{user_id}/totp", status_code=204, responses=ANSWERED)
def reset_totp(services: TheServices, caller: Caller, user_id: Number) -> Response:
    """Removes the second factor of a user who has lost the device."""
    services.accounts.reset_totp(caller, user_id)
    return Response(status_code=204)


@router.delete("/users/{user_id}", status_code=204, responses=ANSWERED)
def remove(services: TheServices, caller: Caller, user_id: Number) -> Response:
    services.accounts.remove(caller, user_id)
    return Response(status_code=204)


@router.get("/tokens")
def tokens(services: TheServices, caller: Caller) -> list[ApiToken]:
    return services.tokens.all(caller)


@router.post("/tokens", status_code=201)
def make_token(services: TheServices, caller: Caller, token: TokenToMake) -> TokenMade:
    made, shown = services.tokens.create(caller, token.name, token.scopes, token.days)
    return TokenMade(token=made, shown_once=shown)


@router.delete("/tokens/{token_id}", status_code=204, responses=ANSWERED)
def revoke_token(services: TheServices, caller: Caller, token_id: Name) -> Response:
    services.tokens.revoke(caller, token_id)
    return Response(status_code=204)
