"""`docker compose up`: a swarm in containers trains to one model, and leaves nothing."""

import os
from pathlib import Path

import pytest
from compose_swarms import trained
from images import build

from services.rpc import swarm_pb2 as pb

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def images() -> None:
    build()


async def test_a_swarm_of_compose_ends_with_equal_models_and_leaves_nothing(tmp_path: Path) -> None:
    async with trained(tmp_path, f"swarm-test-{os.getpid()}", "train.py well /out 3") as training:
        over = await training.until(lambda status: status.state == pb.RoundState.COMPLETE)
        assert await training.digests() == {over.last_result.digest.hex()}
        assert await training.started_again() == {}
