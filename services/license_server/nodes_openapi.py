"""A description of the node API, for people and for test tools."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.license_server.nodes_messages import (
    AcquireRequest,
    ErrorReply,
    LeaseReply,
    RenewRequest,
    StatusReply,
    SwarmRequest,
)
from services.licensing.expulsions import ExpulsionsRequest
from services.licensing.swarms import LeasingSwarms

_REFUSALS = {
    "401": "No client certificate, or one that names nobody.",
    "403": "The certificate's role, the pool or a revocation does not allow it.",
    "404": "There is no such lease: it was freed, or is another node's.",
    "409": "No seat is free, or the license is not valid now.",
    "422": "The request is malformed.",
    "503": "This server stands by for another one.",
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    models: list[type[BaseModel]] = [
        AcquireRequest, RenewRequest, LeaseReply, StatusReply, SwarmRequest, LeasingSwarms, ExpulsionsRequest,
        ErrorReply,
    ]  # fmt: skip
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    lease_id = {
        "name": "lease_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }
    token = {
        "name": "token",
        "in": "query",
        "required": True,
        "schema": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Swarm license server: nodes", "version": "1"},
        "paths": {
            "/v1/leases": {
                "post": _operation(
                    "A seat; the same node gets the same one again. Nodes that share a certificate name their slot in "
                    "the header swarm-slot.",
                    LeaseReply,
                    AcquireRequest,
                )
            },
            "/v1/leases/{lease_id}/renew": {
                "parameters": [lease_id],
                "post": _operation("The seat for another lease time.", LeaseReply, RenewRequest),
            },
            "/v1/leases/{lease_id}": {
                "parameters": [lease_id],
                "delete": {
                    "summary": "Gives the seat back; a lease that is gone already is no error.",
                    "parameters": [token],
                    "responses": {"204": {"description": "It is free."}, **_refusals()},
                },
            },
            "/v1/swarms": {
                "post": _operation(
                    "An SN says which swarm it belongs to, and is told of all that lease here.",
                    LeasingSwarms,
                    SwarmRequest,
                )
            },
            "/v1/expulsions": {
                "post": {
                    "summary": "An SN says who was expelled from its swarm. It is believed about members of its own "
                    "organization; one of the server's organization, about everybody.",
                    "requestBody": {"required": True, "content": _content(ExpulsionsRequest)},
                    "responses": {"204": {"description": "They have no seats any more."}, **_refusals()},
                }
            },
            "/v1/status": {"get": _operation("Seats and who holds them, and the swarms that lease here.", StatusReply)},
        },
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"certificate": {"type": "mutualTLS"}},
        },
        "security": [{"certificate": []}],
    }


def _operation(summary: str, reply: type, request: type | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "Done.", "content": _content(reply)}, **_refusals()},
    }
    if request is not None:
        found["requestBody"] = {"required": True, "content": _content(request)}
    return found


def _content(model: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _refusals() -> dict[str, Any]:
    return {status: {"description": why, "content": _content(ErrorReply)} for status, why in _REFUSALS.items()}
