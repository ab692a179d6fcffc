"""SWCI commands a swarm of two SWOPs with local processes: by a script, from a program, and with curl."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from swci_script import BUILD, CONTRACT, RUN, SCRIPT, Commander
from swop_swarm import HOST, swop_swarm

from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, node_environment
from services.local.swops import RUNNER
from swarmlearning.swci import Swci, SwciError


@pytest.fixture
async def commander(pki: Any, tmp_path: Path) -> AsyncIterator[Commander]:
    async with swop_swarm(pki, tmp_path) as swarm:
        await swarm.swop("swop-1", "sl-1", "sl-2")
        await swarm.swop("swop-2", "sl-3", changes=lambda profile: profile["nodes"][0]["slnodedef"].update(idx=2))
        (swarm.usr / "build.yaml").write_text(BUILD.format(outcome="user-env", base="python:3.11-slim-bookworm"))
        (swarm.usr / "run.yaml").write_text(RUN.format(usr=swarm.usr, behaviour="well"))
        yield Commander(swarm, pki.issue("swci", "swci-2"))


@pytest.fixture
async def web(commander: Commander) -> AsyncIterator[int]:
    """The port of an SWCI in WEB mode."""
    environment = node_environment(SWCI_MODE="WEB", SWCI_WEB_PORT="0", SWCI_BIND_HOST=HOST)
    argv = tuple(
        commander.swarm.swci_command(commander.files, "--sn-ip", HOST, "--sn-api-port", str(commander.swarm.sn_port))
    )
    child = Child.start(Launch("swci", argv, commander.swarm.directory / "swci.log", environment, cwd=CODE_ROOT))
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(child.stop)
        yield (await child.ready())["port"]


async def test_a_script_in_the_usual_order_trains_to_one_model(commander: Commander) -> None:
    script = SCRIPT.format(port=commander.swarm.sn_port, runner=RUNNER, contract=CONTRACT)
    code, output = await commander.run(script)
    assert code == 0, output
    assert output.count("STATE : COMPLETE") == 2
    assert "TASKRUNNER FINISHED" in output and f"CONTRACT RESET : {CONTRACT}" in output
    assert len(list(commander.swarm.out.glob("*.safetensors"))) >= 2
    assert len(commander.swarm.models()) == 1
    await commander.swarm.until(lambda now: all(agent.released >= agent.enrolled_in for agent in now.agents))
    assert commander.swarm.left_over() == []


async def test_a_script_whose_task_fails_ends_with_a_code_and_says_why(commander: Commander) -> None:
    run = RUN.format(usr=commander.swarm.usr, behaviour="never")
    (commander.swarm.usr / "run.yaml").write_text(run)
    script = SCRIPT.format(port=commander.swarm.sn_port, runner=RUNNER, contract=CONTRACT)
    code, output = await commander.run(script)
    assert code != 0
    assert "STATE : ERROR" in output
    assert "ended without" in output
    assert "CONTRACT RESET" not in output


async def test_the_same_from_the_client_library(commander: Commander, web: int) -> None:
    files = commander.files
    swci = Swci("localhost", web, str(files.cert), str(files.key), str(files.cacert))

    def everything() -> None:
        assert swci.createContext("test", ip=HOST, port=commander.swarm.sn_port), swci.getErrors()
        assert swci.switchContext("test")
        assert swci.registerTask("build.yaml"), swci.getErrors()
        assert swci.executeTask("user_env_build_task", peers=2), swci.getErrors()
        assert swci.registerTask("run.yaml"), swci.getErrors()
        assert swci.assignTask("run_task"), swci.getErrors()
        assert swci.waitForTaskRunner(), swci.getErrors()
        assert swci.isTaskDone()
        assert any("swop-1" in line for line in swci.listNodes())
        assert any("COMPLETE" in line for line in swci.getTaskRunnerPeerStatus(RUNNER, 0))
        assert swci.getTrainingContractPerformanceData(CONTRACT)
        assert swci.resetTaskRunner()
        assert swci.getErrors() == []
        assert swci.getTaskInfo("nothing") == []
        assert "There is no task nothing" in swci.getErrors()[-1]
        figure = swci.plotTopology(attrs=["STATE"])
        assert {"SENTINEL sn-1\nPRESENT", "SWOP swop-1\nPRESENT"} <= {text.get_text() for text in figure.axes[0].texts}

    await asyncio.to_thread(everything)
    assert len(commander.swarm.models()) == 1


async def test_the_client_verifies_whom_it_speaks_to(commander: Commander, web: int, foreign_pki: Any) -> None:
    stranger = foreign_pki.issue("swci", "swci-2")
    ours = commander.files
    for files, ca in ((stranger, ours.cacert), (ours, stranger.cacert)):
        swci = Swci("localhost", web, str(files.cert), str(files.key), str(ca))
        with pytest.raises(SwciError, match="cannot be asked"):
            await asyncio.to_thread(swci.listNodes)


async def test_the_same_from_curl(commander: Commander, web: int) -> None:
    files = commander.files

    def curl(method: str, path: str, *more: str) -> Any:
        done = subprocess.run(
            [
                "curl", "-sS", "-X", method, "--cert", str(files.cert), "--key", str(files.key),
                "--cacert", str(files.cacert), f"https://localhost:{web}{path}", *more,
            ],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    def everything() -> None:
        upload = curl("POST", "/uploadTaskDef", "-F", f"file=@{commander.swarm.usr / 'build.yaml'}")
        assert "Task definition is valid" in upload
        lines = curl("POST", "/exec?cmd=CREATE%20TASK%20FROM%20build.yaml")["CONTENT"]
        assert any("Task Registered : user_env_build_task" in line for line in lines), lines
        assert curl("POST", "/exec?cmd=FINALIZE%20TASK%20user_env_build_task")["CONTENT"]
        assigned = curl("POST", f"/exec?cmd=ASSIGN%20TASK%20user_env_build_task%20TO%20{RUNNER}%20WITH%20ALL%20PEERS")
        assert any("Task assigned" in line for line in assigned["CONTENT"]), assigned
        waited = curl("POST", f"/exec?cmd=WAIT%20FOR%20TASKRUNNER%20{RUNNER}")["CONTENT"]
        assert any("STATE : COMPLETE" in line for line in waited), waited
        failed = curl("POST", "/exec?cmd=DANCE")["CONTENT"]
        assert failed[-1].strip().startswith("ERROR : ")
        paths = curl("GET", "/api/v1/openapi.json")["paths"]
        assert "/api/v1/nodes" in paths
        nodes = curl("GET", "/api/v1/nodes")
        assert "swop-2" in json.dumps(nodes)

    await asyncio.to_thread(everything)
