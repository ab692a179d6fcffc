"""SWOPs on a real Docker Engine: from the build of the program's image to equal models, with this checkout's images."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from images import ML, named
from swci_script import BUILD, CONTRACT, RUN, SCRIPT, Commander
from swop_swarm import HOST, SwopSwarm, swop_swarm

from services.identity.certificates import authority_of, read_chain
from services.local.swops import RUNNER
from services.rpc import swarm_pb2 as pb
from services.swop.executors.docker import DockerExecutor
from services.swop.executors.spec import VolumeSpec
from tests.free_ports import free_port

SL_IMAGE, ML_IMAGE = named("sl"), named(ML)

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(600)]


@pytest.fixture
async def swarm(images: None, pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SwopSwarm]:
    monkeypatch.setenv("SWOP_SL_IMAGE", SL_IMAGE)
    async with swop_swarm(pki, tmp_path) as running:
        yield running


def with_docker(profile: dict[str, Any]) -> None:
    """On the host's own network, where each SL has a port of its own."""
    profile["resourcemgr"]["mgrtype"] = "DOCKER"
    del profile["images"]
    for node in profile["nodes"]:
        port = free_port(HOST)
        node["slnodedef"]["slport"] = port
        node["slnodedef"]["slenvvars"] = [{"SL_BIND_HOST": HOST}, {"SL_BIND_PORT": port}]


async def left_over(pki: Any, *swops: str) -> list[str]:
    """Of these SWOPs alone: others of the same names may be at work on this host for other swarms."""
    authority = authority_of(read_chain(pki.identity("swci", "swci-1").cert)[0])
    async with DockerExecutor() as docker:
        labels = [{"swarm.swop": swop, "swarm.authority": authority} for swop in swops]
        nodes = [node.name for wanted in labels for node in await docker.find(wanted)]
        return nodes + [volume.name for wanted in labels for volume in await docker.find_volumes(wanted)]


async def test_a_script_has_two_swops_build_and_train_and_leaves_nothing(swarm: SwopSwarm, pki: Any) -> None:
    def second(profile: dict[str, Any]) -> None:
        with_docker(profile)
        profile["nodes"][0]["slnodedef"]["idx"] = 2

    await swarm.swop("swop-1", "sl-1", "sl-2", changes=with_docker)
    await swarm.swop("swop-2", "sl-3", changes=second)
    outcome = f"swarm-test/outcome-{secrets.token_hex(4)}"
    (swarm.usr / "build.yaml").write_text(BUILD.format(outcome=outcome, base=ML_IMAGE))
    (swarm.usr / "run.yaml").write_text(RUN.format(usr=swarm.usr, behaviour="well"))
    script = SCRIPT.format(port=swarm.sn_port, runner=RUNNER, contract=CONTRACT)
    try:
        code, output = await Commander(swarm, pki.issue("swci", "swci-2")).run(script)
        assert code == 0, output
        assert output.count("STATE : COMPLETE") == 2
        assert len(list(swarm.out.glob("*.safetensors"))) == 3
        assert len(swarm.models()) == 1
        await swarm.until(lambda now: all(agent.released >= agent.enrolled_in for agent in now.agents))
        assert await left_over(pki, "swop-1", "swop-2") == []
    finally:
        await remove_image(outcome)


async def test_a_killed_swop_takes_up_its_containers_and_leaves_none(swarm: SwopSwarm, pki: Any) -> None:
    await swarm.swop("swop-1", "sl-1", changes=with_docker)
    outcome = f"swarm-test/outcome-{secrets.token_hex(4)}"
    body = {"BuildContext": None, "BuildType": "INLINE", "BuildSteps": [f"FROM {ML_IMAGE}"]}
    build = await swarm.task("MAKE_USER_CONTAINER", body, outcome=outcome)
    try:
        await swarm.assign(build)
        assert (await swarm.ended()).state == pb.RUNNER_COMPLETE
        await swarm.reset()
        await swarm.assign(await swarm.run(rounds=20, count=1, prereq=build))
        await swarm.until(lambda now: [peer.state for peer in now.peers] == [pb.PEER_RUNNING])
        await swarm.kill("swop-1")
        await swarm.swop("swop-1", "sl-1", changes=with_docker)
        done = await swarm.ended()
        assert done.state == pb.RUNNER_COMPLETE, done
        reset = swarm.swci.runners.ResetRunner(pb.ResetRunnerRequest(runner=RUNNER))
        await asyncio.gather(reset, swarm.kill("swop-1"))
        await swarm.swop("swop-1", "sl-1", changes=with_docker)
        await swarm.reset()
        assert await left_over(pki, "swop-1") == []
    finally:
        await remove_image(outcome)


async def test_what_belongs_to_a_swop_of_another_swarm_is_not_taken_for_left_over(pki: Any) -> None:
    name = f"swarm-test-{secrets.token_hex(4)}"
    labels = {"swarm.swop": name, "swarm.authority": "0" * 16}
    async with DockerExecutor() as docker:
        volume = await docker.create_volume(VolumeSpec(name, labels))
        try:
            assert await docker.find_volumes(labels)
            assert await left_over(pki, name) == []
        finally:
            await docker.remove_volume(volume.name)


async def remove_image(name: str) -> None:
    async with DockerExecutor() as docker, asyncio.timeout(60):
        await docker.remove_image(name)
