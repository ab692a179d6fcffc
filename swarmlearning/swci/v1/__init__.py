"""A typed client of an SWCI's /api/v1: ``Client`` blocks, ``AsyncClient`` is asynchronous.

Needs httpx and pydantic (``pip install swarm-learning[client]``). Results are dataclasses of swarmlearning.swci.models.
"""

from swarmlearning.swci.v1.client import AsyncClient, Client
from swarmlearning.swci.v1.errors import (
    ApiError,
    Conflict,
    Malformed,
    NotAllowed,
    NotFound,
    ServerFailed,
    SNUnavailable,
    SwciUnreachable,
)

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "Conflict",
    "Malformed",
    "NotAllowed",
    "NotFound",
    "SNUnavailable",
    "ServerFailed",
    "SwciUnreachable",
]
