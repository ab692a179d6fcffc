"""Both APIs under schemathesis: whatever is sent, the answer is as described, and never an internal error."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from license_servers import served

from services.license_server import request_limits
from services.license_server.database import Database
from services.license_server.services import Services

EXAMPLES = 15
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@pytest.fixture
async def address(pki, tmp_path, monkeypatch) -> AsyncIterator[str]:
    monkeypatch.setattr(request_limits, "PER_MINUTE", 1_000_000)
    with Database.in_directory(tmp_path) as database:
        services = Services(database)
        services.licenses.install_community({"SL": 3, "SN": 1}, None)
        async with served(services, pki) as found:
            yield found


def ask_everything(client: httpx.Client, description: str) -> int:
    """Checks every answer against the description; returns the number of operations."""
    schema = schemathesis.openapi.from_dict(client.get(description).json())
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        fuzz(client, operation)
    return len(operations)


def sendable(headers: dict[str, str]) -> dict[str, str]:
    """The request without its generated token: the certificate identifies the caller."""
    return {
        name: value
        for name, value in headers.items()
        if name.lower() not in ("authorization", "content-length") and value.isascii() and value.isprintable()
    }


def fuzz(client: httpx.Client, operation: Any) -> None:
    described = operation.definition.raw["responses"]

    @given(case=operation.as_strategy())
    @SETTINGS
    def conforms(case: schemathesis.Case) -> None:
        sent = case.as_transport_kwargs(base_url=str(client.base_url))
        answer = client.request(
            sent["method"],
            sent["url"],
            params=sent.get("params"),
            headers=sendable(sent.get("headers") or {}),
            content=sent.get("data"),
            **({"json": sent["json"]} if "json" in sent else {}),
        )
        assert answer.status_code < 500, answer.text
        assert str(answer.status_code) in described or answer.status_code in (404, 405), (
            f"{case.method} {case.path}: {answer.status_code} {answer.text[:200]}"
        )
        if answer.status_code >= 400:
            assert set(answer.json()) == {"code", "message", "facts"}
            assert "Traceback" not in answer.text

    conforms()


@pytest.mark.timeout(400)
async def test_administrators_api_answers_as_it_says(pki, address):
    context = pki.identity("admin", "ada").client_context()
    with httpx.Client(base_url=address, verify=context, timeout=60) as client:
        assert await asyncio.to_thread(ask_everything, client, "/api/v1/openapi.json") > 30


@pytest.mark.timeout(400)
async def test_api_of_nodes_answers_as_it_says(pki, address):
    context = pki.identity("sl", "sl-1").client_context()
    with httpx.Client(base_url=address, verify=context, timeout=60) as client:
        assert await asyncio.to_thread(ask_everything, client, "/v1/openapi.json") == 6
