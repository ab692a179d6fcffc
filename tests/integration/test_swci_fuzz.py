"""An SWCI's whole REST API under schemathesis, with a real SN: it answers all requests as described."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis import checks
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi
from sn_swarm import config, scripted_sl
from swci_web import HOST, Web, swci_web

from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn.directory import DEFAULT_RUNNER, DEFAULT_TRAINING
from services.swci.web.serving import HEAD_LIMIT_BYTES
from tests.free_ports import free_port

EXAMPLES = 8
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
CHECKS = [
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
]
KNOWN = {
    "contexts": "default", "contracts": DEFAULT_TRAINING, "tasks": "known", "taskrunners": DEFAULT_RUNNER,
    "variable": "V", "peer": "0",
}  # fmt: skip
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
SECONDS = 0.1
WITHIN_S = 60.0


@pytest.fixture
async def web(pki: Any, tmp_path: Path) -> AsyncIterator[Web]:
    """An SWCI with a training that a node has enrolled in, a task, and a file."""
    async with swci_web(pki, tmp_path) as running:
        (running.usr / "run.yaml").write_text("Name: t\n")
        async with SNClient(f"localhost:{running.sn.port}", pki.identity("swci", "swci-2")) as swci:
            header = pb.TaskHeader(name="known", type="RUN_SWARM", author="Ada", prereq="ROOTTASK", outcome="x")
            await swci.tasks.CreateTask(pb.CreateTaskRequest(header=header, body="Command: a.py\n"))
        async with scripted_sl(pki.identity("sl", "sl-1"), running.sn.port) as sl:
            await sl.enrol(config(min_peers=1))
            yield running


@pytest.mark.timeout(600)
async def test_the_api_answers_as_it_says(web: Web) -> None:
    files = web.pki.issue("admin", "ada")
    with requests.Session() as session:
        session.trust_env = False  # the CA is ours
        session.cert, session.verify = (str(files.cert), str(files.key)), str(files.cacert)
        failures = await asyncio.to_thread(ask_everything, session, web)
    assert len(failures) > 30
    assert {name: failure for name, failure in failures.items() if failure} == {}


def ask_everything(session: requests.Session, web: Web) -> dict[str, str]:
    """The faults of each operation."""
    described = session.get(f"{web.base_url}/api/v1/openapi.json", timeout=WITHIN_S)
    schema = schemathesis.openapi.from_dict(described.json())
    operations = [result.ok() for result in schema.get_all_operations()]
    return {operation.label: fuzz(session, operation, web) for operation in operations}


def fuzz(session: requests.Session, operation: Any, web: Web) -> str:
    """The faults of an operation. Half of the names and addresses sent exist."""

    @given(case=st.one_of(map(operation.as_strategy, MODES)), known=st.booleans())
    @SETTINGS
    def conforms(case: schemathesis.Case, known: bool) -> None:
        asked = case.path_parameters
        if known:
            case.path_parameters = known_names(case)
        changed = bound(case, web.sn.port if known else unused_port) or case.path_parameters != asked
        check(session, case, web.base_url, changed)

    unused_port = free_port()
    try:
        conforms()
    except (FailureGroup, AssertionError) as failure:
        return "\n".join(str(each) for each in getattr(failure, "exceptions", [failure]))
    return ""


def known_names(case: schemathesis.Case) -> dict[str, Any]:
    about = case.path.removeprefix("/api/v1/").split("/")[0]
    return {
        name: KNOWN.get(name) or KNOWN[about] if isinstance(value, str) else value
        for name, value in (case.path_parameters or {}).items()
    }


def bound(case: schemathesis.Case, port: int) -> bool:
    """Changes a request so that it neither waits for long nor calls anybody else's address. Returns whether it was
    changed.
    """
    changed = False
    seconds = (case.query or {}).get("seconds")
    if isinstance(seconds, int | float) and seconds > SECONDS:
        case.query["seconds"], changed = SECONDS, True
    if isinstance(case.body, dict) and case.path.endswith("/contexts"):
        case.body |= {
            name: value
            for name, value in {"ip": HOST, "port": port, "service": f"{HOST}:{port}"}.items()
            if isinstance(case.body.get(name), type(value))
        }
        changed = True
    return changed


def check(session: requests.Session, case: schemathesis.Case, base_url: str, changed: bool) -> None:
    """Sends a request and checks the answer. A request that was ``changed`` may have become valid."""
    sent = case.as_transport_kwargs(base_url=base_url)
    assume(len(requests.Request(url=sent["url"], params=sent["params"], method="GET").prepare().url) < HEAD_LIMIT_BYTES)
    headers = {name: value for name, value in sent["headers"].items() if value.isascii() and value.isprintable()}
    changed = changed or len(headers) < len(sent["headers"])
    sent["headers"] = headers
    with session.request(**sent, stream=True, timeout=WITHIN_S) as answer:
        if answer.headers["Content-Type"].startswith("text/event-stream"):
            assert next(answer.iter_lines()).startswith(b"id: ")  # the stream itself does not end
            return
        case.validate_response(answer, checks=CHECKS if changed else [*CHECKS, openapi.negative_data_rejection])
        if answer.status_code >= 400:
            assert set(answer.json()) == {"code", "message", "facts"}
            assert "Traceback" not in answer.text
