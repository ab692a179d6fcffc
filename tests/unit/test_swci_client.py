"""The typed client and the routes of /api/v1 are the same operations; what no SWCI answers is told apart."""

import inspect
import re
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi.routing import APIRoute

from services.swci.web import commands, contexts, contracts, taskrunners, tasks
from swarmlearning.swci import models
from swarmlearning.swci.v1 import ApiError, Client, NotFound, SNUnavailable, SwciUnreachable
from swarmlearning.swci.v1.answers import Events, result_of
from swarmlearning.swci.v1.api import Operations
from swarmlearning.swci.v1.calls import Asks, Call, Watches

ROUTERS = (commands.typed, contexts.router, contracts.router, tasks.router, taskrunners.router)
CALL = Call("GET", "/nodes", models.Nodes)
REFUSAL = '{"code": "unknown-task", "message": "There is no task x.", "facts": {"name": "x"}}'


def described() -> dict[tuple[str, str], Any]:
    """Method and path of every operation of the client, with a call of it."""
    found = {}
    for operation in vars(Operations).values():
        if isinstance(operation, Asks | Watches):
            names = list(inspect.signature(operation.describe).parameters)[1:]
            call = operation.describe(None, **{name: 1.0 if name == "seconds" else "{}" for name in names})
            found[call.method, unquote(call.path)] = operation, call
    return found


def test_the_client_has_an_operation_for_each_route() -> None:
    routes = {
        (next(iter(route.methods)), re.sub(r"{[^}]*}", "{}", route.path)): route
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
    }
    operations = described()
    assert operations.keys() == routes.keys()
    for which, (operation, call) in operations.items():
        route = routes[which]
        if isinstance(operation, Watches):
            assert call.result.__name__ in route.responses[200]["description"]
        else:
            assert call.result is route.response_model
        assert {it.alias for it in route.dependant.query_params} == set(call.query)
        fields = route.body_field.field_info.annotation.model_fields if route.body_field else {}
        assert set(call.body or {}) <= set(fields)


@pytest.mark.parametrize("text", ["", "<html>", "{}", '{"nodes": [{"name": 1}]}', '{"nodes": "all"}', "[]", "null"])
def test_what_no_swci_answers_is_no_result(text: str) -> None:
    with pytest.raises(SwciUnreachable, match="What answered is no SWCI"):
        result_of(CALL, httpx.Response(200, text=text))
    with pytest.raises(SwciUnreachable, match="What answered is no SWCI"):
        result_of(CALL, httpx.Response(502, text=text))


def test_a_field_that_a_later_version_added_is_passed_over() -> None:
    assert result_of(CALL, httpx.Response(200, text='{"nodes": [], "more": 1}')) == models.Nodes([])


def test_a_refusal_has_the_type_of_its_status() -> None:
    with pytest.raises(NotFound, match=r"^There is no task x\.$") as refused:
        result_of(CALL, httpx.Response(404, text=REFUSAL))
    assert (refused.value.code, refused.value.facts, refused.value.status) == ("unknown-task", {"name": "x"}, 404)


def test_events_are_read_line_by_line() -> None:
    events = Events(CALL)
    assert [state for line in [": still here", "", "id: 1", 'data: {"nodes":', "data: []}", ""]
            for state in events.take(line)] == [models.Nodes([])]  # fmt: skip
    with pytest.raises(SNUnavailable, match="There is no task x"):
        for line in ("event: error", f'data: {{"status": 424, {REFUSAL[1:]}', ""):
            events.take(line)
    with pytest.raises(SwciUnreachable):
        for line in ("data: {", ""):
            events.take(line)
    assert issubclass(SNUnavailable, ApiError)


def test_help_on_an_operation_tells_what_it_does() -> None:
    with Client("localhost") as client:
        for name, operation in vars(Operations).items():
            if isinstance(operation, Asks | Watches):
                assert getattr(client, name).__doc__ == operation.describe.__doc__
