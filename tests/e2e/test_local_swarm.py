"""`swarm up` with real nodes: they start, train, end with one model, and stop in order whatever happens."""

import asyncio
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from local_swarms import DEADLINE_S, PROGRAMS, Recorder, SwarmPlans, processes_of, swarm_command
from swci_script import BUILD, RUN

from services.cli.main import main
from services.errors import AlreadyRunning, ChildFailed, NeverTrained, TooFewSLs
from services.local.certificates import admin_identity
from services.local.plan import ADMIN, Ports, SwarmPlan
from services.local.process import Child
from services.local.state import STATE_FILE, SwarmState
from services.local.status import local_status
from services.local.swarm import stay, up
from services.local.swops import RUNNER
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.tasks.definition import read_task
from tests.processes import gone

CHAINS = ("geth", "embedded")


def certs(arguments: list[str]) -> int:
    """`swarm certs`"""
    return main(["certs", *arguments])


async def train(plan: SwarmPlan, recorder: Recorder) -> bool:
    return await up(plan, recorder, asyncio.Event())


@pytest.mark.parametrize("chain", CHAINS)
async def test_all_nodes_end_with_the_model_whose_digest_is_on_the_chain(
    chain: str, plans: SwarmPlans, recorder: Recorder
) -> None:
    assert await train(plans.plan(chain=chain), recorder)
    assert f"the chain is {chain}" in recorder.lines
    assert recorder.last.state == pb.RoundState.COMPLETE
    assert plans.digests() == [recorder.last.last_result.digest] * 3
    losses = {node.name: node.loss for node in recorder.last.participants}
    assert losses == {"sl-1": 1.0, "sl-2": 2.0, "sl-3": 3.0}


@pytest.mark.needs("geth")
async def test_nothing_is_left_running_after_a_training(plans: SwarmPlans, recorder: Recorder) -> None:
    await train(plans.plan(chain="geth"), recorder)
    assert processes_of(plans.directory) == []
    assert not (plans.directory / "swarm" / STATE_FILE).exists()
    assert not any("killed" in line for line in recorder.lines)


@pytest.mark.parametrize("chain", CHAINS)
async def test_another_training_in_the_directory_keeps_chain_and_keys_and_takes_new_certificates(
    chain: str, plans: SwarmPlans, recorder: Recorder
) -> None:
    plan = plans.plan(chain=chain)
    await train(plan, recorder)
    first, identity = recorder.last, admin_identity(plan.directory, "admin").fingerprint
    ca = ["--dir", str(plan.directory / "ca")]
    assert certs(["renew", *ca, *map(str, sorted((plan.directory / "certs").glob("*-cert.pem")))]) == 0
    for name in ("sn-sn-1", "sl-sl-2"):
        cert, key = (plan.directory / "certs" / f"{name}-{part}.pem" for part in ("cert", "key"))
        assert certs(["rotate", *ca, "--cert", str(cert), "--key", str(key)]) == 0
    again = Recorder()
    assert await train(plan, again)
    assert again.last.first_round > first.last_result.round
    assert again.last.location == first.location
    assert plans.digests() == [again.last.last_result.digest] * 3
    assert admin_identity(plan.directory, "admin").fingerprint == identity


@pytest.mark.needs("geth")
async def test_an_interrupted_training_goes_on_in_the_same_directory(plans: SwarmPlans, recorder: Recorder) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(up(plans.plan("forever", chain="geth"), recorder, stop))
    await recorder.accepted(3)
    stop.set()
    assert await running is False
    again = Recorder()
    assert await train(plans.plan(chain="geth"), again)
    assert any(line.startswith("a training was interrupted here and goes on in round") for line in again.lines)
    assert again.last.first_round == recorder.last.first_round
    assert again.last.last_result.round > recorder.last.last_result.round
    assert plans.digests() == [again.last.last_result.digest] * 3


@pytest.mark.needs("geth")
async def test_a_deep_directory_is_no_obstacle_to_geth(tmp_path: Path, recorder: Recorder) -> None:
    """The path of a Unix socket has room for 107 characters."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    plans = SwarmPlans(deep)
    assert await train(plans.plan(chain="geth", sl_count=1, rounds=1), recorder)


async def test_a_failing_program_is_named_with_its_last_lines_and_ends_the_swarm(
    plans: SwarmPlans, recorder: Recorder
) -> None:
    with pytest.raises(ChildFailed) as failure:
        await train(plans.plan("fail"), recorder)
    assert "ml-2 ended with exit code 1" in str(failure.value)
    assert "The data of this node are missing." in str(failure.value)
    assert processes_of(plans.directory) == []


async def test_a_failing_program_is_named_and_ends_no_swarm_whose_min_peers_are_left(
    plans: SwarmPlans, recorder: Recorder
) -> None:
    with pytest.raises(ChildFailed, match=r"(?s)ml-2 ended with exit code 1.*The data of this node are missing\."):
        await train(plans.plan("fail-spared"), recorder)
    assert "ml-2 ended with exit code 1; sl-1 and sl-3 go on without it, as minPeers is 2" in recorder.lines
    assert recorder.last.state == pb.RoundState.COMPLETE
    assert plans.digests() == [recorder.last.last_result.digest] * 2
    assert processes_of(plans.directory) == []


async def test_more_nodes_than_there_are_can_never_merge_which_is_said_at_once(
    plans: SwarmPlans, recorder: Recorder
) -> None:
    with pytest.raises(TooFewSLs, match=r"minPeers is 3, but this swarm has 2 SLs: no round can ever be merged"):
        async with asyncio.timeout(DEADLINE_S):
            await train(plans.plan("lonely", sl_count=2), recorder)
    assert processes_of(plans.directory) == []


async def test_a_program_that_never_opens_its_channel_is_named(plans: SwarmPlans, recorder: Recorder) -> None:
    with pytest.raises(NeverTrained, match=r"ml-1 ended without training through the channel of sl-1"):
        await train(plans.plan("never", sl_count=1), recorder)


async def test_a_program_that_does_not_exist_is_named(plans: SwarmPlans, recorder: Recorder) -> None:
    plan = replace(plans.plan(sl_count=1), command=("no-such-program",))
    with pytest.raises(ChildFailed, match="no-such-program"):
        await train(plan, recorder)
    assert processes_of(plans.directory) == []


async def test_a_port_in_use_is_said_by_the_node_that_wanted_it(plans: SwarmPlans, recorder: Recorder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        plan = replace(plans.plan(sl_count=1), ports=Ports(sn_api=port))
        with pytest.raises(ChildFailed) as failure:
            await train(plan, recorder)
    assert "sn-1 ended with exit code 12" in str(failure.value)
    assert f"Port {port} on 127.0.0.1 is in use by another program" in str(failure.value)
    assert processes_of(plans.directory) == []


async def test_an_sl_without_a_seat_says_so(
    plans: SwarmPlans, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_LICENSE_SEATS", "SN=1,SL=1")
    with pytest.raises(ChildFailed) as failure:
        await train(plans.plan(sl_count=2), recorder)
    assert "ended with exit code 11" in str(failure.value)
    assert "All 1 seats for SL are in use" in str(failure.value)
    assert processes_of(plans.directory) == []


async def test_a_second_swarm_in_the_same_directory_is_refused(plans: SwarmPlans, recorder: Recorder) -> None:
    stop = asyncio.Event()
    first = asyncio.create_task(up(plans.idle(), recorder, stop))
    await recorder.said("The swarm is ready")
    with pytest.raises(AlreadyRunning, match="A swarm already runs in"):
        await train(plans.plan(), Recorder())
    stop.set()
    assert await first is False


async def test_a_node_that_dies_ends_the_swarm_and_is_named(plans: SwarmPlans, recorder: Recorder) -> None:
    running = asyncio.create_task(train(plans.plan("forever"), recorder))
    await recorder.accepted(2)
    state = SwarmState.read(plans.directory / "swarm")
    os.kill(next(process.pid for process in state.processes if process.name == "sn-1"), signal.SIGKILL)
    with pytest.raises(ChildFailed, match=r"sn-1 ended with exit code -9 \(SIGKILL\)"):
        await running
    assert processes_of(plans.directory) == []


async def test_stopping_stops_programs_first_and_the_license_server_last(plans: SwarmPlans, recorder: Recorder) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(up(plans.plan("forever"), recorder, stop))
    await recorder.accepted(1)
    stop.set()
    assert await running is False
    stopped = [line.split()[0] for line in recorder.lines if line.endswith("has stopped")]
    kinds = [name.partition("-")[0] for name in stopped]
    assert kinds[-2:] == ["sn", "license"]
    assert kinds == sorted(kinds, key=["ml", "sl", "sn", "license"].index)
    assert processes_of(plans.directory) == []


async def test_a_program_can_be_attached_by_hand(plans: SwarmPlans, recorder: Recorder) -> None:
    idle, program = plans.idle(), plans.plan(sl_count=1).program(0)
    stop = asyncio.Event()
    running = asyncio.create_task(up(idle, recorder, stop, stay))
    await recorder.said(f"SL_REQUEST_CHANNEL={idle.channel('sl-1')[0]}")
    attached = Child.start(program)
    assert await attached.wait() == 0, attached.tail()
    await recorder.said("the training is over")
    stop.set()
    await running
    assert plans.digests() == [recorder.last.last_result.digest]


async def test_status_tells_processes_and_training(plans: SwarmPlans, recorder: Recorder) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(up(plans.plan("forever"), recorder, stop))
    await recorder.accepted(2)
    found = await local_status(plans.directory / "swarm")
    stop.set()
    await running
    assert [process["name"] for process in found["processes"]][:2] == ["license-1", "sn-1"]
    assert all(process["alive"] for process in found["processes"])
    assert found["chain"] == "embedded"
    assert found["training"]["last_result"]["round"] >= 2
    assert {node["name"] for node in found["training"]["participants"]} == {"sl-1", "sl-2", "sl-3"}
    assert {"sn-1", "sl-1", "sl-2", "sl-3"} <= found["certificates_end"].keys()


async def test_the_command_line_shows_and_stops_a_swarm(plans: SwarmPlans, recorder: Recorder) -> None:
    place = ("--dir", str(plans.directory / "swarm"))
    shown = plans.directory / "shown"
    starter = swarm_command(shown, "up", "--sl=2", "--chain=embedded", *place, name="up")
    await starter.ready()

    status = swarm_command(shown, "status", "--json", *place, name="status")
    assert await status.wait() == 0, status.tail()
    assert json.loads(status.log.read_text())["chain"] == "embedded"
    human = swarm_command(shown, "status", *place, name="human")
    assert await human.wait() == 0, human.tail()
    assert "no program has opened its channel yet" in human.log.read_text()

    down = swarm_command(shown, "down", *place, name="down")
    assert await down.wait() == 0, down.tail()
    assert down.log.read_text().startswith("Stopped sl-2, sl-1, sn-1, license-1.")
    assert await starter.wait() == 0, starter.tail()
    assert processes_of(plans.directory) == []


async def test_ctrl_c_stops_everything_and_says_that_the_training_was_not_over(plans: SwarmPlans) -> None:
    plan = plans.plan("forever", sl_count=2)
    arguments = ("--sl", "2", "--chain", "embedded", "--dir", str(plan.directory), "--", *plan.command)
    starter = swarm_command(plans.directory / "shown", "up", *arguments, name="up")
    await starter.ready()
    os.kill(starter.pid, signal.SIGINT)
    assert await starter.wait() == 130
    text = starter.log.read_text()
    assert "Stopped before the training was over." in text
    assert text.index("sl-1 has stopped") < text.index("sn-1 has stopped") < text.index("license-1 has stopped")
    assert "Traceback" not in text
    assert processes_of(plans.directory) == []


async def told(client: SNClient, wanted: Callable[[pb.RunnerStatus], bool]) -> None:
    """Returns once the taskrunner is as wanted."""
    async with asyncio.timeout(DEADLINE_S):
        async for status in client.watch_runner(RUNNER):
            if wanted(status):
                return


async def test_a_swarm_that_is_stopped_ends_what_its_swops_have_started(plans: SwarmPlans) -> None:
    place = plans.directory / "swarm"
    shown = plans.directory / "shown"
    starter = swarm_command(shown, "up", "--sl=1", "--swop=1", "--chain=embedded", f"--dir={place}", name="up")
    port = (await starter.ready())["port"]
    usr = place / "usr"
    shutil.copytree(PROGRAMS, usr / "app")
    (usr / "build.yaml").write_text(BUILD.format(outcome="user-env", base="x"))
    (usr / "run.yaml").write_text(RUN.format(usr=usr, behaviour="forever").replace("COUNT: 3", "COUNT: 1"))
    (usr / "out").mkdir()
    async with SNClient(f"127.0.0.1:{port}", admin_identity(place, ADMIN)) as client:
        for name in ("build", "run"):
            task = read_task((usr / f"{name}.yaml").read_bytes(), name)
            header = task.header
            described = pb.TaskHeader(
                name=header.name, type=header.task_type, author="x", prereq=header.prereq, outcome=header.outcome
            )
            request = pb.CreateTaskRequest(header=described, body=task.body_text, finalize=True)
            await client.tasks.CreateTask(request)
        await told(client, lambda status: any(agent.present for agent in status.agents))
        await client.runners.AssignTask(pb.AssignTaskRequest(runner=RUNNER, task="run_task", all_peers=True))
        await told(client, lambda status: [peer.state for peer in status.peers] == [pb.PEER_RUNNING])
    down = swarm_command(shown, "down", f"--dir={place}", name="down")
    assert await down.wait() == 0, down.tail()
    assert await starter.wait() == 0, starter.tail()
    assert processes_of(plans.directory) == []


async def test_no_node_outlives_a_killed_swarm_up(plans: SwarmPlans) -> None:
    starter = swarm_command(
        plans.directory / "shown", "up", "--sl", "1", "--dir", str(plans.directory / "swarm"), name="up"
    )
    await starter.ready()
    state = SwarmState.read(plans.directory / "swarm")
    ended = [asyncio.create_task(gone(process.pid)) for process in state.processes]
    starter.kill()
    await starter.wait()
    await asyncio.wait_for(asyncio.gather(*ended), 60)


async def test_a_failing_program_makes_the_command_fail_in_words(plans: SwarmPlans) -> None:
    plan = plans.plan("fail", sl_count=2)
    arguments = ("--sl", "2", "--chain", "embedded", "--dir", str(plan.directory), "--", *plan.command)
    starter = swarm_command(plans.directory / "shown", "up", *arguments, name="up")
    assert await starter.wait() == ChildFailed.exit_code
    text = starter.log.read_text()
    assert "ERROR: ml-2 ended with exit code 1. See what it said last (the whole log is " in text
    assert "The data of this node are missing." in text
    assert "Traceback" not in text
