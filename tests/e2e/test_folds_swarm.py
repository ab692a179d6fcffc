"""Cross-validation: each fold is a training of its own, here in one directory one after the other."""

import asyncio
import json
import sys
from dataclasses import replace
from typing import Any

import pytest
from local_swarms import PROGRAMS, Recorder, SwarmPlans

from services.local.swarm import up

NODES = 2


async def train(plans: SwarmPlans, fold: int) -> tuple[Recorder, list[dict[str, Any]]]:
    recorder = Recorder()
    command = (sys.executable, str(PROGRAMS / "one_fold.py"), str(fold), str(plans.out))
    assert await up(replace(plans.plan(sl_count=NODES), command=command), recorder, asyncio.Event())
    files = [plans.out / f"fold-{fold}-node-{index}.json" for index in range(NODES)]
    return recorder, [json.loads(file.read_text()) for file in files]


@pytest.mark.timeout(300)
async def test_no_fold_learns_from_the_one_before(plans: SwarmPlans) -> None:
    kept: list[list[int]] = []
    for fold in (1, 2):
        recorder, nodes = await train(plans, fold)
        assert plans.digests() == [recorder.last.last_result.digest] * NODES
        # All begin with one seed, so the first merge hands out what each has already.
        assert [node["first_merge_moved"] for node in nodes] == [0.0] * NODES
        assert all(node["losses"][-1] < node["losses"][0] for node in nodes)
        shown = {node.report_round for status in recorder.statuses for node in status.participants}
        assert min(shown - {0}) >= recorder.last.first_round  # states that were overtaken are not shown
        kept.append(nodes[0]["kept"])
    assert not set(kept[0]) & set(kept[1])
