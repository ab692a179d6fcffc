"""The SWOPs of `docker compose up` carry out tasks, whose mounts lie in USR_DIR.

Takes a minute, and so it is no part of `make test`: `make test-tasks` runs it.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from compose_swarms import PROGRAMS
from images import ML, TAG, build, named
from swci_script import BUILD, RUN

from examples.digits.compose_swarm import ComposeSwarm, docker, hand_over
from services.local.swops import RUNNER
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.tasks.definition import read_task
from swarm_callback.digest import digest_of_file

ENDED_WITHIN_S = 180.0

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(600)]


@pytest.fixture
def usr(tmp_path: Path) -> Path:
    """The program in ``app``, and room for models in ``out``."""
    build()
    for path in (tmp_path, tmp_path / "usr", tmp_path / "usr" / "app", tmp_path / "usr" / "out"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    shutil.copy(PROGRAMS / "train.py", tmp_path / "usr" / "app")
    hand_over(tmp_path / "usr" / "out")
    return tmp_path / "usr"


async def carried_out(client: SNClient, text: str) -> tuple[bool, list[str]]:
    """Whether the task is complete everywhere, and what its peers say; what it started is gone."""
    task = read_task(text, "a task")
    head = task.header
    header = pb.TaskHeader(
        name=head.name, type=head.task_type, author=head.author, prereq=head.prereq, outcome=head.outcome
    )
    await client.tasks.CreateTask(pb.CreateTaskRequest(header=header, body=task.body_text, finalize=True))
    await client.runners.AssignTask(pb.AssignTaskRequest(runner=RUNNER, task=head.name, all_peers=True))
    done = await until(client, lambda now: now.state in {pb.RUNNER_COMPLETE, pb.RUNNER_ERROR})
    said = [peer.description for peer in done.peers]
    await client.runners.ResetRunner(pb.ResetRunnerRequest(runner=RUNNER))
    await until(client, lambda now: all(agent.released >= agent.enrolled_in for agent in now.agents))
    return done.state == pb.RUNNER_COMPLETE, said


async def until(client: SNClient, fits: Callable[[pb.RunnerStatus], bool]) -> pb.RunnerStatus:
    async with asyncio.timeout(ENDED_WITHIN_S):
        async for status in client.watch_runner(RUNNER):
            if fits(status):
                return status
    raise AssertionError("the SN ended")


async def test_tasks_mount_what_lies_in_usr_dir_and_no_key(tmp_path: Path, usr: Path) -> None:
    outcome = f"swarm-test/outcome-{secrets.token_hex(4)}"
    settings = {"TAG": TAG, "USR_DIR": str(usr)}
    swarm = ComposeSwarm(f"swarm-tasks-{os.getpid()}", tmp_path / "unused", settings=settings)
    try:
        await swarm.up("--wait", "swop-1", "swop-2", "swci")
        async with await swarm.client(tmp_path / "certificate") as client:
            complete, said = await carried_out(client, BUILD.format(outcome=outcome, base=named(ML)))
            assert complete, said
            run = RUN.format(usr="/platform/swarm/usr", behaviour="well").replace("COUNT: 3", "COUNT: 2")
            keys = f"  - {{Src: {swarm.project}_cert-sn-1, Tgt: /keys, MType: VOLUME}}\n"
            complete, said = await carried_out(client, run.replace("Name: run_task", "Name: thief") + keys)
            assert not complete
            # The task has failed when the first of them has said so.
            assert any(f"the volume {swarm.project}_cert-sn-1 is not allowed here" in words for words in said), said
            complete, said = await carried_out(client, run)
            assert complete, said
        models = [digest_of_file(path).digest() for path in (usr / "out").glob("*.safetensors")]
        assert (len(models), len(set(models))) == (2, 1)
    finally:
        await swarm.down()
        await docker("image", "rm", "--force", outcome)
