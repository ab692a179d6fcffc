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
    "401": "The client certificate is missing or names no node.",
    "403": "The certificate's role, the pool or a revocation forbids it.",
    "404": "The lease does not exist: it was freed, or belongs to another node.",
    "409": "No seat is free, or the license is not valid now.",
    "422": "The request is malformed.",
    "503": "This server is on standby for another one.",
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
                    "Acquires a seat; a node that asks again gets the same seat. Nodes that share a certificate name "
                    "their slot in the header swarm-slot.",
                    LeaseReply,
                    AcquireRequest,
                )
            },
            "/v1/leases/{lease_id}/renew": {
                "parameters": [lease_id],
                "post": _operation("Renews a lease.", LeaseReply, RenewRequest),
            },
            "/v1/leases/{lease_id}": {
                "parameters": [lease_id],
                "delete": {
                    "summary": "Returns a seat. It is no error if the lease has ended already.",
                    "parameters": [token],
                    "responses": {"204": {"description": "The seat is free."}, **_refusals()},
                },
            },
            "/v1/swarms": {
                "post": _operation(
                    "Records the swarm of the calling SN; returns all swarms that lease from this server.",
                    LeasingSwarms,
                    SwarmRequest,
                )
            },
            "/v1/expulsions": {
                "post": {
                    "summary": "Reports who was expelled from the swarm of the calling SN. An SN is believed about "
                    "members of its own organization; if it is of the server's organization, about all members.",
                    "requestBody": {"required": True, "content": _content(ExpulsionsRequest)},
                    "responses": {"204": {"description": "The expelled members hold no seats now."}, **_refusals()},
                }
            },
            "/v1/status": {"get": _operation("Seats, their holders, and the swarms that lease here.", StatusReply)},
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
