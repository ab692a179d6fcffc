"""The file by which a node says that it works."""

import asyncio
import os
from pathlib import Path

import pytest

from services.runtime import health
from services.runtime.ready import ReadySocket

OLD = 1_000_000.0


async def test_a_node_that_is_ready_writes_its_file_and_keeps_it_young(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "health"
    monkeypatch.setenv(health.VARIABLE, str(file))
    monkeypatch.setattr(health, "TOUCH_EVERY_S", 0.01)
    ready = ReadySocket()
    assert not file.exists()
    ready.report(port=1)
    os.utime(file, (OLD, OLD))
    turn, loop = asyncio.Event(), asyncio.get_running_loop()
    async with asyncio.timeout(10):
        while file.stat().st_mtime == OLD:
            loop.call_later(0.005, turn.set)
            await turn.wait()
            turn.clear()
    await ready.health.end()


async def test_without_a_named_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(health.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    ready = ReadySocket()
    ready.report()
    await ready.health.end()
    with os.scandir(tmp_path) as found:
        assert not list(found)
