"""The answers of the HTTP APIs: JSON, with errors as code, message and facts."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from services.errors import SwarmError

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 409,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,  # another request came first
    "DATA_LOSS": 500,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
STATUS_OF_CODE = {"sign-in-locked": 429, "too-many-requests": 429, "body-too-large": 413}


class ErrorAnswer(BaseModel):
    """An error: its stable code, its message, and the facts in the message."""

    code: str
    message: str
    facts: dict[str, str | int | float | bool | None]


def status_of(error: SwarmError) -> int:
    return STATUS_OF_CODE.get(error.code) or HTTP_STATUS.get(error.grpc_status, 500)


def error_content(error: SwarmError, address: str) -> dict[str, Any]:
    """Code and facts let the client raise the same class; the message is for people who read the answer."""
    complete = type(error)(**{"address": address, **error.facts})
    facts = {name: _plain(value) for name, value in complete.facts.items()}
    return {"code": complete.code, "message": str(complete), "facts": facts}


async def send_json(send: Any, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
    body = b"" if content is None else json.dumps(content, separators=(",", ":")).encode()
    told = [(b"content-length", str(len(body)).encode())]
    if content is not None:
        told.append((b"content-type", b"application/json"))
    told += [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)
