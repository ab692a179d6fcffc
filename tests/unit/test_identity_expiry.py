"""A node says in time that its certificate ends."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from services.identity.expiry import warn_until

START = datetime(2031, 5, 1, tzinfo=UTC)


async def said(valid_for: timedelta, *, known_by_id: bool = False, **more: Any) -> list[Any]:
    """All that is logged from the start to the end of a certificate."""
    now = START
    identity: Any = SimpleNamespace(
        cert=Path("sl-1-cert.pem"), known_by_id=known_by_id, trust=SimpleNamespace(source="cas.pem")
    )

    async def pause(seconds: float) -> None:
        nonlocal now
        now += timedelta(seconds=seconds)

    with capture_logs() as logs:
        await warn_until(START + valid_for, identity, lambda: now, pause, **more)
    return logs


async def test_it_is_said_30_7_and_1_days_before_and_at_the_end() -> None:
    logs = await said(timedelta(days=40))
    assert [entry.get("days_left") for entry in logs] == [30, 7, 1, None]
    assert [entry["log_level"] for entry in logs] == ["warning"] * 3 + ["error"]
    assert {entry["file"] for entry in logs} == {"sl-1-cert.pem"}


async def test_a_node_that_starts_late_says_it_once() -> None:
    logs = await said(timedelta(days=3))
    assert [entry.get("days_left") for entry in logs] == [3, 1, None]


async def test_one_that_is_renewed_is_worth_a_word_only_where_it_should_have_been() -> None:
    hours, days = timedelta(hours=1), timedelta(days=90)
    assert [entry["log_level"] for entry in await said(hours, known_by_id=True, lasts=hours)] == ["error"]
    assert [entry.get("days_left") for entry in await said(days, known_by_id=True, lasts=days)] == [7, 1, None]
