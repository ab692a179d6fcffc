# ruff: noqa: E501  # what is tried and what is said stand in one line
"""SWOPs with local processes: tasks from assignment to release, every way to fail, kills in every state."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from swop_swarm import SwopSwarm, swop_swarm

from services.errors import ChildFailed
from services.rpc import swarm_pb2 as pb


@pytest.fixture
async def swarm(pki: Any, tmp_path: Path) -> AsyncIterator[SwopSwarm]:
    async with swop_swarm(pki, tmp_path) as running:
        yield running


def states(status: pb.RunnerStatus) -> list[int]:
    return [peer.state for peer in status.peers]


async def test_two_swops_build_and_train_to_one_model_and_leave_nothing(swarm: SwopSwarm) -> None:
    await swarm.swop("swop-1", "sl-1", "sl-2")
    second = {"changes": lambda profile: profile["nodes"][0]["slnodedef"].update(idx=2)}
    await swarm.swop("swop-2", "sl-3", **second, trust=swarm.trust())  # which its SL goes by too
    await swarm.assign(await swarm.build())
    assert states(await swarm.ended()) == [pb.PEER_COMPLETE] * 2
    await swarm.reset()
    await swarm.assign(await swarm.run())
    done = await swarm.ended()
    assert done.state == pb.RUNNER_COMPLETE
    assert {peer.name for peer in done.peers} == {"sl-1", "sl-2", "sl-3"}
    assert len(list(swarm.out.glob("*.safetensors"))) == 3
    assert len(swarm.models()) == 1
    await swarm.reset()
    assert swarm.left_over() == []


async def test_pairs_that_share_a_certificate_are_participants_of_their_own(swarm: SwopSwarm) -> None:
    await swarm.swop("swop-1", "sl-1", "sl-1", "sl-1")
    await swarm.assign(await swarm.run())
    done = await swarm.ended()
    assert done.state == pb.RUNNER_COMPLETE, done
    assert {peer.name for peer in done.peers} == {"sl-1/0", "sl-1/1", "sl-1/2"}
    assert len(swarm.models()) == 1
    await swarm.reset()
    assert swarm.left_over() == []


async def test_a_second_swop_of_one_name_is_refused_and_the_first_one_works_on(swarm: SwopSwarm) -> None:
    first = await swarm.swop("swop-1", "sl-1")
    with pytest.raises(ChildFailed, match="swop-1 is running already, at 127"):
        await swarm.swop("swop-1", "sl-1")
    swarm.swops["swop-1"] = first
    await swarm.assign(await swarm.run(count=1))
    assert (await swarm.ended()).state == pb.RUNNER_COMPLETE


@pytest.mark.needs("bubblewrap")
async def test_a_program_sees_its_mounts_and_can_write_nothing_else_of_the_host(
    swarm: SwopSwarm, tmp_path: Path
) -> None:
    await swarm.swop("swop-1", "sl-1")
    (swarm.usr / "app" / "probe.py").write_text(
        "import os, pathlib\n"
        f"for target in ('/out/mine', '/tmp/mine', '{tmp_path}/mine', '/etc/mine', '/swarm-cert/mine', '/app2'):\n"
        "    try:\n"
        "        pathlib.Path(target).write_text('x'); print(target, 'WRITTEN')\n"
        "    except OSError as error:\n"
        "        print(target, 'refused')\n"
        "print(os.path.isdir('/tmp/hpe-swarm'), os.path.exists('/swarm-cert'))\n"
        "raise SystemExit(7)\n"
    )
    await swarm.assign(await swarm.run(Command="/app/probe.py"))
    failed = await swarm.ended()
    said = failed.peers[0].description
    assert failed.state == pb.RUNNER_ERROR and "exit code 7" in said
    assert "/out/mine WRITTEN" in said and "/tmp/mine WRITTEN" in said  # noqa: S108 - its own /tmp
    assert f"{tmp_path}/mine refused" in said and "/etc/mine refused" in said
    assert "True False" in said
    assert (swarm.out / "mine").exists() and not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Command": "/app/train.py never /out"}, "without"),
        ({"Command": "/app/train.py fail /out", "Envvars": [{"SWARM_NODE_COUNT": 1}, {"SWARM_NODE_INDEX": 1}]}, "The data of this node are missing"),
        ({"Command": "/app/nothing.py"}, "No such file"),
        ({"Entrypoint": "no-such-program"}, "no-such-program"),
    ],
    ids=["never_trains", "ends_in_a_session", "no_script", "no_program"],
)  # fmt: skip
async def test_a_program_that_does_not_train_fails_the_task_and_says_why(
    changes: dict[str, Any], words: str, swarm: SwopSwarm
) -> None:
    await swarm.swop("swop-1", "sl-1")
    await swarm.assign(await swarm.run(count=1, **changes))
    failed = await swarm.ended()
    assert failed.state == pb.RUNNER_ERROR
    assert words in failed.peers[0].description
    assert words in (swarm.directory / "swop-1.log").read_text()
    await swarm.reset()
    assert swarm.left_over() == []


async def test_the_next_task_begins_as_soon_as_the_last_is_reset(swarm: SwopSwarm) -> None:
    await swarm.swop("swop-1", "sl-1")
    task = await swarm.run("forever", count=1)
    for _ in range(3):
        await swarm.assign(task)
        await swarm.until(lambda status: states(status) == [pb.PEER_RUNNING])
        await swarm.reset()
        assert swarm.left_over() == []


async def test_a_swop_that_is_stopped_leaves_its_pairs_at_work(swarm: SwopSwarm) -> None:
    child = await swarm.swop("swop-1", "sl-1")
    await swarm.assign(await swarm.run("forever", count=1))
    await swarm.until(lambda now: states(now) == [pb.PEER_RUNNING])
    assert not await child.stop(), f"it had to be killed:\n{child.tail()}"
    assert swarm.left_over()
    await swarm.swop("swop-1", "sl-1")
    status = await swarm.until(lambda now: all(agent.present for agent in now.agents))
    assert states(status) == [pb.PEER_RUNNING]
    await swarm.reset()
    assert swarm.left_over() == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("state", ["WAIT", "ENROLLED", "RUNNING", "COMPLETE", "RESET"])
async def test_a_killed_swop_takes_up_its_task_and_leaves_nothing(state: str, swarm: SwopSwarm) -> None:
    """Four kills in each state of a task."""
    await swarm.swop("swop-1", "sl-1")
    for _ in range(4):
        rounds = 20 if state == "RUNNING" else 3
        task = await swarm.run(rounds=rounds, count=1)
        if state == "WAIT":
            await swarm.kill("swop-1")
            await swarm.swop("swop-1", "sl-1")
            await swarm.until(lambda now: all(agent.present for agent in now.agents))
        await swarm.assign(task)
        if state == "ENROLLED":
            await swarm.until(lambda now: states(now) == [pb.PEER_ENROLLED])
        elif state == "RUNNING":
            await swarm.until(lambda now: states(now) == [pb.PEER_RUNNING])
        elif state == "COMPLETE":
            await swarm.ended()
        if state in {"ENROLLED", "RUNNING", "COMPLETE"}:
            await swarm.kill("swop-1")
            await swarm.swop("swop-1", "sl-1")
        done = await swarm.ended()
        assert states(done) == [pb.PEER_COMPLETE], done
        if state == "RESET":
            before = swarm.swci.runners.ResetRunner(pb.ResetRunnerRequest(runner=done.runner))
            await asyncio.gather(before, swarm.kill("swop-1"))
            await swarm.swop("swop-1", "sl-1")
        await swarm.reset()
        assert swarm.left_over() == []
        await swarm.swci.admin.ResetContract(pb.ResetContractRequest(name="defaultbb.cqdb.sml.hpe"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SharedContent": [{"Src": "/etc", "Tgt": "/app", "MType": "BIND"}]}, "it mounts /etc of this host, whose policy allows"),
        ({"SharedContent": [{"Src": "{usr}/../secret", "Tgt": "/app", "MType": "BIND"}]}, "not an absolute path without '..'"),
        ({"SharedContent": [{"Src": "{usr}/link", "Tgt": "/app", "MType": "BIND"}]}, "a link in "),
        ({"SharedContent": [{"Src": "{usr}", "Tgt": "/app", "MType": "BIND"}]}, "holds files of the SWOP itself"),
        ({"Envvars": [{"LD_PRELOAD": "/out/evil.so"}]}, "the variable LD_PRELOAD"),
        ({"Envvars": [{"SL_REQUEST_CHANNEL": "/out/pipe"}]}, "the variable SL_REQUEST_CHANNEL"),
        ({"Envvars": [{"PYTHONPATH": "/out"}]}, "the variable PYTHONPATH"),
    ],
    ids=["etc", "dots", "link", "profile", "preload", "channel", "pythonpath"],
)  # fmt: skip
async def test_a_hostile_task_is_refused_with_its_reason_on_the_chain(
    changes: dict[str, Any], words: str, swarm: SwopSwarm
) -> None:
    (swarm.directory / "secret").mkdir()
    (swarm.usr / "link").symlink_to(swarm.directory / "secret")
    for mount in changes.get("SharedContent", ()):
        mount["Src"] = mount["Src"].replace("{usr}", str(swarm.usr))
    await swarm.swop("swop-1", "sl-1")
    await swarm.assign(await swarm.run(count=1, **changes))
    refused = await swarm.ended()
    assert refused.state == pb.RUNNER_ERROR
    assert words in refused.peers[0].description
    assert not list((swarm.directory / "swop-1" / "processes" / "nodes").iterdir())


async def test_the_policy_of_a_host_decides(swarm: SwopSwarm) -> None:
    (swarm.usr / "policy.yaml").write_text("authors: [swci/somebody-else]\n")
    await swarm.swop("swop-1", "sl-1", changes=lambda profile: profile.update(policyuri="policy.yaml"))
    await swarm.assign(await swarm.run(count=1))
    refused = await swarm.ended()
    assert "it was registered by swci/swci-1, who is not among the authors" in refused.peers[0].description


async def test_the_owner_of_a_host_may_confirm_or_refuse_each_task(swarm: SwopSwarm) -> None:
    (swarm.usr / "policy.yaml").write_text("approval: every\n")
    child = await swarm.swop("swop-1", "sl-1", changes=lambda profile: profile.update(policyuri="policy.yaml"))
    await swarm.assign(await swarm.run(count=1))
    async with asyncio.timeout(60):
        while "waits for approval" not in child.tail(50):
            await asyncio.wait({child.exited}, timeout=0.05)

    async def owner(answer: str, *words: str) -> str:
        argv = ["-m", "services.cli", "swop", answer, "--data-dir", str(swarm.directory / "swop-1"), *words]
        process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0].decode()

    shown = await owner("approve")
    digest, _, rest = shown.partition("\n")
    described = json.loads(rest[: rest.rindex("}") + 1])
    assert described["runs"][0]["command"] == ["/app/train.py", "well", "/out", "3"]
    assert described["registered by"] == "swci/swci-1"
    assert "Refused: task-" in await owner("refuse", digest, "--reason", "not\nbefore noon")
    refused = await swarm.ended()
    assert refused.state == pb.RUNNER_ERROR
    assert "the owner of this host does not want it: not before noon" in refused.peers[0].description
    await swarm.reset()
    assert "Approved: task-" in await owner("approve", digest)
    await swarm.assign(refused.task)
    assert (await swarm.ended()).state == pb.RUNNER_COMPLETE
