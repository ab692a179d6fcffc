"""Whole rounds: three SLs, one SN, real certificates, real pipes, tiny models."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from sl_swarm import Arrays, swarm_of


def model(value: float) -> Arrays:
    return {"w": np.full((3, 4), value, np.float32), "n": np.array(int(value), np.int64)}


def add(amount: float) -> Any:
    return lambda arrays, _number: {**arrays, "w": arrays["w"] + np.float32(amount)}


async def test_three_nodes_end_with_one_model_whose_digest_is_on_the_chain(pki: Any, tmp_path: Path) -> None:
    names = ["sl-1", "sl-2", "sl-3"]
    async with swarm_of(pki, tmp_path, *names) as swarm:
        programs = [swarm.ml(name, model(i), add(i)) for i, name in enumerate(names)]
        digests = await asyncio.gather(*(program.run() for program in programs))
        for name in names:
            assert await swarm.nodes[name].ended() is None
        assert len(set(digests)) == 1
        assert swarm.view.last_result.digest.hex() == digests[0]
        assert [answer.contributed for answer in programs[0].answers] == [True] * 4
        assert {who.left_reason for who in swarm.view.participants.values()} == {"finished"}
