"""The task files of every example as users run them, by SWOPs with local processes: one model on every node.

Takes minutes, and so it is no part of `make test`: `make test-tasks` runs it.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import swop_swarm
from few_digits import few_digits
from swop_swarm import RUNNER, SwopSwarm

from examples.demo import FRAMEWORKS
from services.local.plan import CODE_ROOT
from services.rpc import swarm_pb2 as pb
from services.tasks.definition import RunSwarm, TaskDefinition, read_task

WITHIN_S = 400.0  # programs that each import a framework

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("example", list(FRAMEWORKS))
async def test_the_task_files_of_an_example_build_and_train(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: str
) -> None:
    monkeypatch.setattr(swop_swarm, "WITHIN_S", WITHIN_S)
    async with swop_swarm.swop_swarm(pki, tmp_path) as swarm:
        put_code(swarm, example)
        build, train = (definition(swarm, example, name) for name in ("build", "train"))
        assert isinstance(train.body, RunSwarm)
        variables = {name: value for line in train.body.envvars or [] for name, value in line.items()}
        nodes = int(variables["SWARM_NODE_COUNT"])
        await swarm.swop("swop-1", *(f"sl-{index + 1}" for index in range(nodes)))
        for task in (build, train):
            await run(swarm, task)
        assert len(list(swarm.out.glob("node-*.safetensors"))) == nodes
        assert len(swarm.models()) == 1


def put_code(swarm: SwopSwarm, example: str) -> None:
    """As docs/tasks.md says it: the scripts of digits, the folder of all examples for the others."""
    app = swarm.usr / "app"
    if example == "digits":
        for path in (CODE_ROOT / "examples" / "digits").glob("*.py"):
            shutil.copy(path, app)
    else:
        shutil.copytree(CODE_ROOT / "examples", app / "examples")
    if example == "mnist":
        few_digits(app)


def definition(swarm: SwopSwarm, example: str, name: str) -> TaskDefinition:
    path = CODE_ROOT / "examples" / example / "tasks" / f"{name}.yaml"
    return read_task(path.read_text().replace("USR", str(swarm.usr)), str(path))


async def run(swarm: SwopSwarm, task: TaskDefinition) -> None:
    head = task.header
    header = pb.TaskHeader(
        name=head.name, type=head.task_type, author=head.author, prereq=head.prereq, outcome=head.outcome
    )
    await swarm.swci.tasks.CreateTask(pb.CreateTaskRequest(header=header, body=task.body_text, finalize=True))
    await swarm.swci.runners.AssignTask(pb.AssignTaskRequest(runner=RUNNER, task=head.name, all_peers=True))
    done = await swarm.ended()
    assert done.state == pb.RUNNER_COMPLETE, [peer.description for peer in done.peers]
    await swarm.reset()
