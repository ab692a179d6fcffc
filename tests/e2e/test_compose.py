"""`docker compose up`: a swarm in containers trains to one model, and leaves nothing."""

import os
from pathlib import Path

import pytest
from compose_swarms import trained
from images import TAG, build

from examples.digits.compose_swarm import ComposeSwarm, ContainersFailed
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


@pytest.mark.parametrize(
    ("peers", "said"), [(9, "ERROR: PEERS is '9', and must be a number from 1 to 8."), (0, "ERROR: PEERS is '0'")]
)
async def test_more_peers_than_there_are_services_are_refused_in_one_sentence(
    tmp_path: Path, peers: int, said: str
) -> None:
    swarm = ComposeSwarm(f"swarm-refused-{os.getpid()}", tmp_path, peers, {"TAG": TAG})
    try:
        with pytest.raises(ContainersFailed):
            await swarm.up("license-server")
        assert said in await swarm.compose("logs", "--no-color", "prepare")
    finally:
        await swarm.down()
