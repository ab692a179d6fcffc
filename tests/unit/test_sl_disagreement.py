"""A node that has merged its share says so where the accepted result is another one than all have made."""

from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.sl.sharding.follower import ShardFollower
from services.sl.view import AcceptedResult

MADE, ACCEPTED = "a" * 64, "b" * 64


async def _nothing() -> None:
    pass


async def said_of(attempt: Any, accepted: str = ACCEPTED) -> list[Any]:
    """What is logged when a result of sl-1, sl-2 and sl-3 is accepted."""
    following: Any = ShardFollower(SimpleNamespace(), lambda: None, _nothing)  # type: ignore[arg-type]
    view = SimpleNamespace(round=4, term=2)
    following._merger = SimpleNamespace(attempt=attempt, view=view, idle_s=0.0, stall_s=1.0, close=_nothing)
    with capture_logs() as logs:
        assert (
            await following.result(AcceptedResult(4, accepted, 100, "sl-1", ("sl-1", "sl-2", "sl-3"), term=2)) is None
        )
    return [entry for entry in logs if entry["log_level"] == "error"]


def attempt(told: str | None, *names: str) -> Any:
    return SimpleNamespace(digest=told or MADE, told=told, order=SimpleNamespace(names=names))


async def test_another_result_of_the_same_contributions_is_said_loudly() -> None:
    (entry,) = await said_of(attempt(MADE, "sl-3", "sl-1", "sl-2"))
    assert (entry["leader"], entry["round"], entry["term"]) == ("sl-1", 4, 2)
    assert (entry["made"], entry["accepted"]) == (MADE, ACCEPTED)


@pytest.mark.parametrize(
    "other",
    [
        attempt(MADE, "sl-1", "sl-2"),  # somebody was left out, and came back in another attempt
        attempt(None, "sl-1", "sl-2", "sl-3"),  # what this node believes only
    ],
)
async def test_what_this_node_cannot_know_is_no_disagreement(other: Any) -> None:
    assert await said_of(other) == []
