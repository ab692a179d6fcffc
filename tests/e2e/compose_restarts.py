"""Containers of a swarm that trains are killed and started again, one by one and all at once: the models are equal.

Takes minutes, and so it is no part of `make test`: `make test-restarts` runs it.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from compose_swarms import Trained, trained

from examples.digits.compose_swarm import docker
from services.rpc import swarm_pb2 as pb

PEERS = 3
NODES = ["license-server", "sn-1", "sn-2", "swop-1", "swop-2", "swci"]
PAIRS = [f"{what}-{number + 1}" for number in range(PEERS) for what in ("sl", "ml")]
MORE_ROUNDS = 2

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(1200), pytest.mark.usefixtures("images")]


@pytest.fixture
async def training(tmp_path: Path) -> AsyncIterator[Trained]:
    async with trained(tmp_path, f"swarm-restarts-{os.getpid()}", "train.py until-told /out") as running:
        await running.accepted(1)
        yield running


async def goes_on(training: Trained) -> None:
    """Rounds are accepted after what has just been done."""
    now = await training.until(lambda status: status.last_result.round > 0)
    await training.accepted(now.last_result.round + MORE_ROUNDS)


async def ends_with_equal_models(training: Trained) -> None:
    await training.tell("enough")
    over = await training.until(lambda status: status.state == pb.RoundState.COMPLETE)
    assert await training.digests() == {over.last_result.digest.hex()}


async def test_each_container_is_killed_and_started_again_during_a_training(training: Trained) -> None:
    for service in (*NODES, *PAIRS):
        container = training.swarm.container(service)
        await docker("kill", container)
        await docker("start", container)
        await goes_on(training)
    await ends_with_equal_models(training)


async def test_all_containers_are_restarted_as_a_host_would(training: Trained) -> None:
    containers = [training.swarm.container(service) for service in (*NODES, *PAIRS)]
    await docker("restart", "--time", "5", *containers)
    await goes_on(training)
    await ends_with_equal_models(training)
