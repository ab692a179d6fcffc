"""What a local swarm makes of a pair that fails, where nobody can say how many are needed."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.errors import ChainError, NetworkError, SwarmError
from services.local.plan import SwarmPlan
from services.local.swarm import LocalSwarm, leave


@pytest.mark.parametrize("answer", [ChainError(problem="geth was away", log="geth.log"), NetworkError()])
async def test_a_failed_pair_ends_a_swarm_whose_sn_cannot_say_that_the_others_may_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: SwarmError
) -> None:
    async def refused(_self: LocalSwarm) -> Any:
        raise answer

    monkeypatch.setattr(LocalSwarm, "_status", refused)
    view: Any = SimpleNamespace(say=lambda _line: None)
    swarm = LocalSwarm(SwarmPlan(tmp_path, 3, "embedded", ("program",)), view, leave, None)
    swarm._clients = [object()]  # type: ignore[list-item]
    exited = asyncio.get_running_loop().create_future()
    exited.set_result(18)
    failed: Any = SimpleNamespace(name="sl-1", exited=exited)
    swarm._ended(failed)
    async with asyncio.timeout(30):
        assert await swarm._broken is failed
