"""SWCI commands a swarm of two SWOPs with local processes: by a script, from a program, and with curl."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
    assert commander.swarm.left_over() == []  # RESET has waited


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
    for files, ca, why in (
        (stranger, ours.cacert, "does not trust the CA that issued our certificate"),
        (ours, stranger.cacert, "verify failed"),
    ):
        swci = Swci("localhost", web, str(files.cert), str(files.key), str(ca))
        with pytest.raises(SwciError, match=f"cannot be asked: .*{why}"):
            await asyncio.to_thread(swci.listNodes)


class Curl:
    """What a shell has: curl with certificates."""

    def __init__(self, files: Any, port: int) -> None:
        self._certificates = ["--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert)]
        self._address = f"https://localhost:{port}"

    def __call__(self, method: str, path: str, *more: str) -> Any:
        """The answer: data where it is JSON, else text."""
        command = ["curl", "-sS", "-X", method, *self._certificates, self._address + path, *more]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return json.loads(said) if said.startswith(("{", "[")) else said

    def post(self, path: str, **body: Any) -> Any:
        return self("POST", f"/api/v1{path}", "--json", json.dumps(body))

    def execute(self, command: str) -> list[str]:
        """The lines of a command that succeeds."""
        lines = [str(line).strip() for line in self("POST", f"/exec?cmd={quote(command)}")["CONTENT"]]
        assert not [line for line in lines if line.startswith("ERROR")], lines
        return lines


@pytest.mark.needs("curl")
async def test_the_same_from_curl(commander: Commander, web: int) -> None:
    curl, usr = Curl(commander.files, web), commander.swarm.usr
    definitions = {name: (usr / name).rename(commander.swarm.directory / name) for name in ("build.yaml", "run.yaml")}

    def everything() -> None:
        curl.execute(f"WAIT FOR IP {HOST} {commander.swarm.sn_port} 5")
        assert "CONTEXT CREATED : test" in curl.execute(f"CREATE CONTEXT test WITH IP {HOST} {commander.swarm.sn_port}")
        assert curl.execute("SWITCH CONTEXT test") == ["DEFAULT CONTEXT SET TO : test"]
        for file, task in (("build.yaml", "user_env_build_task"), ("run.yaml", "run_task")):
            assert "Task definition is valid" in curl("POST", "/uploadTaskDef", "-F", f"file=@{definitions[file]}")
            assert f"Task Registered : {task}" in curl.execute(f"CREATE TASK FROM {file}")
            assert curl.execute(f"FINALIZE TASK {task}") == [f"Task Finalized : {task}"]
            assert "Task assigned" in curl.execute(f"ASSIGN TASK {task} TO {RUNNER} WITH ALL PEERS")[0]
            assert "STATE : COMPLETE" in curl.execute(f"WAIT FOR TASKRUNNER {RUNNER}")
            assert f"TASKRUNNER RESET : {RUNNER}" in curl.execute(f"RESET TASKRUNNER {RUNNER}")
        assert any("sl-3" in line for line in curl.execute(f"PERFDATA {CONTRACT}"))
        assert curl.execute(f"RESET CONTRACT {CONTRACT}") == [f"CONTRACT RESET : {CONTRACT}"]
        assert curl("POST", "/exec?cmd=DANCE")["CONTENT"][-1].startswith("ERROR : There is no command 'DANCE'")

    await asyncio.to_thread(everything)
    assert len(commander.swarm.models()) == 1


@pytest.mark.needs("curl")
async def test_the_same_with_types_from_curl(commander: Commander, web: int) -> None:
    curl, usr = Curl(commander.files, web), commander.swarm.usr
    runner = f"/taskrunners/{RUNNER}"

    def everything() -> None:
        assert "/api/v1/nodes" in curl("GET", "/api/v1/openapi.json")["paths"]
        assert curl.post("/contexts", name="test", ip=HOST, port=commander.swarm.sn_port)["sn"] == "sn-1"
        assert curl("PUT", "/api/v1/contexts/test/active")["active"]
        for file in ("build.yaml", "run.yaml"):
            task = curl.post("/tasks/from-text", text=(usr / file).read_text())["name"]
            assert curl.post(f"/tasks/{task}/finalize")["finalized"]
            assert curl.post(f"{runner}/assignment", task=task, all_peers=True)["task"] == task
            assert curl("GET", f"/api/v1{runner}/wait")["status"]["state"] == "COMPLETE"
            assert curl.post(f"{runner}/reset")["state"] == "IDLE"
        rounds = curl("GET", f"/api/v1/contracts/{CONTRACT}/rounds")["rounds"]
        assert rounds and len(rounds[-1]["merged"]) >= 2
        pairs = curl("GET", f"/api/v1/contracts/{CONTRACT}/performance")["pairs"]
        assert {it["uid"] for it in pairs} == {"sl-1", "sl-2", "sl-3"}
        assert curl.post(f"/contracts/{CONTRACT}/reset")["text"] == f"CONTRACT RESET : {CONTRACT}"
        assert {it["name"] for it in curl("GET", "/api/v1/nodes")["nodes"]} >= {"sn-1", "swop-1", "swop-2"}

    await asyncio.to_thread(everything)
    assert len(commander.swarm.models()) == 1


def documented_programs(replacements: dict[str, str]) -> list[str]:
    """The Python of docs/swci.md, for a swarm of the test; what is awaited stands in a function."""
    text = (CODE_ROOT / "docs" / "swci.md").read_text()
    programs = [block.partition("```")[0] for block in text.split("```python\n")[1:]]
    for old, new in replacements.items():
        assert old in text
        programs = [program.replace(old, new) for program in programs]
    return [
        f"import asyncio, contextlib\nfrom swarmlearning.swci.v1 import AsyncClient\n\nasync def main():\n"
        f"{textwrap.indent(program, '    ')}\nasyncio.run(main())\n"
        if program.startswith("async ")
        else program
        for program in programs
    ]


async def test_the_documented_programs_do_what_they_say(commander: Commander, web: int) -> None:
    files, usr = commander.files, commander.swarm.usr
    (usr / "train.yaml").write_text((usr / "build.yaml").read_text().replace("user_env_build_task", "train"))
    programs = documented_programs(
        {
            '"HOST", 30306': f'"localhost", {web}', '"HOST",': f'"localhost", {web},',
            "swci-cert.pem": str(files.cert), "swci-key.pem": str(files.key), "ca.pem": str(files.cacert),
            'ip="127.0.0.1")': f'ip="{HOST}", port={commander.swarm.sn_port})',
        }
    )  # fmt: skip
    with_lines, with_types, awaited = programs
    assert await output_of(with_lines, usr) == []  # no errors
    *_, last = await output_of(with_types, usr)
    assert last.startswith("COMPLETE [") and "('swop-1', 'COMPLETE')" in last and "('swop-2', 'COMPLETE')" in last
    performance, summary = await output_of(awaited, usr, 2)
    assert performance.startswith("PerformanceData(") and summary == "no program has opened its channel yet"


async def output_of(program: str, directory: Path, lines: int | None = None) -> list[str]:
    """What a program prints until its end, or its first lines where it has none."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-uc", program, cwd=directory, env={**os.environ, "PYTHONPATH": str(CODE_ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    if lines is not None:
        found = [(await process.stdout.readline()).decode().rstrip() for _ in range(lines)]
        process.terminate()
        await process.communicate()
        return found
    said = (await process.communicate())[0].decode().splitlines()
    assert process.returncode == 0, said
    return said
