"""One swarm whose nodes' Keras computes with JAX here and PyTorch there: `make test-backends`, which takes a minute."""

import asyncio
import sys
from dataclasses import replace

import pytest
from local_swarms import PROGRAMS, Recorder, SwarmPlans

from services.local.swarm import up


@pytest.mark.timeout(300)
async def test_nodes_whose_keras_computes_with_different_backends_end_with_one_model(
    plans: SwarmPlans, recorder: Recorder
) -> None:
    command = (sys.executable, str(PROGRAMS / "two_phases_keras.py"), str(plans.out))
    assert await up(replace(plans.plan(sl_count=2), command=command), recorder, asyncio.Event())
    assert plans.digests() == [recorder.last.last_result.digest] * 2
    assert [node.epochs_done for node in recorder.last.participants] == [4, 4]
