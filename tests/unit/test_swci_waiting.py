"""What WAIT FOR TASKRUNNER says of a task that failed."""

from collections.abc import AsyncIterator

import pytest

from services.errors import NotUpInTime, SNUnreachable, TaskFailed, TaskRefused
from services.rpc import swarm_pb2 as pb
from services.swci.session import WaitLimits
from services.swci.waiting import WaitForRunner


class OneState:
    """An SN whose taskrunner stays as it is."""

    address = "sn-1:30304"

    def __init__(self, status: pb.RunnerStatus) -> None:
        self._status = status

    async def watch_runner(self, _name: str, _seen: int = 0) -> AsyncIterator[pb.RunnerStatus]:
        yield self._status


async def test_reasons_stand_in_the_sentence_with_one_full_stop_and_one_name() -> None:
    refused = str(TaskRefused(task="The task t", problem="it mounts /etc"))
    status = pb.RunnerStatus(
        runner="r",
        state=pb.RUNNER_ERROR,
        assignment=1,
        task="t",
        task_type="RUN_SWARM",
        peers=[
            pb.TaskPeer(agent="swop-1", state=pb.PEER_ERROR, description=refused),
            pb.TaskPeer(agent="swop-2", name="sl-2", state=pb.PEER_ERROR, description="Exit code 7"),
            pb.TaskPeer(agent="swop-3", state=pb.PEER_ERROR),
        ],
    )
    with pytest.raises(TaskFailed) as failed:
        await WaitForRunner(OneState(status), "r", WaitLimits(), lambda _: None).until_over()  # type: ignore[arg-type]
    said = str(failed.value)
    assert f": peer 0, swop-1: {refused.removesuffix('.')}; peer 1, sl-2 of swop-2: Exit code 7;" in said
    assert said.count("peer 2, swop-3: it gave no reason. GET TASKRUNNER PEER STATUS r") == 1
    assert ".." not in said
    assert ".;" not in said


def test_a_sentence_at_the_end_of_another_has_one_full_stop() -> None:
    problem = str(SNUnreachable(address="sn-1:30304", problem="the connection was refused"))
    assert ".." not in str(NotUpInTime(peer="The SN", address="sn-1:30304", limit="5 s", problem=problem))
