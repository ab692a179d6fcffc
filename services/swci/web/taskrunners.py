"""/api/v1/taskrunners: tasks, who does them, and their progress."""

import asyncio
import contextlib
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from services.errors import CommandError
from services.rpc import swarm_pb2 as pb
from services.swci.commands import taskrunner as commands
from services.swci.waiting import OVER, WaitForRelease, states
from services.swci.web import events
from services.swci.web.caller import TheSession
from services.swci.web.routes import Body, Name, NameInBody, Whole, run
from swarmlearning.swci import models

router = APIRouter()

MAX_WAIT_S = 3600.0
Seconds = Annotated[float, Query(ge=0, le=MAX_WAIT_S)]
IDLE = "IDLE"


class TaskRunnerToMake(Body):
    name: NameInBody


class Assignment(Body):
    """Exactly one of ``peers``, ``all_peers`` and ``target``. ``peers``: SL-ML pairs for RUN_SWARM, otherwise SWOPs."""

    task: NameInBody
    peers: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    all_peers: bool = False
    target: NameInBody | None = None

    def command(self, taskrunner: str) -> commands.AnyAssignment:
        """Raises CommandError."""
        if (self.peers is not None) + self.all_peers + (self.target is not None) != 1:
            raise CommandError(problem="exactly one of peers, all_peers and target must be given", usage="one of them")
        if self.peers is not None:
            return commands.AssignTask(task=self.task, taskrunner=taskrunner, peers=self.peers)
        if self.target is not None:
            return commands.AssignTaskToTarget(task=self.task, taskrunner=taskrunner, swop=self.target)
        return commands.AssignTaskToAll(task=self.task, taskrunner=taskrunner)


@router.get("/taskrunners")
async def taskrunners(session: TheSession) -> models.TaskRunners:
    return await run(commands.ListTaskRunners(), session)


@router.post("/taskrunners", status_code=201)
async def create(session: TheSession, wanted: TaskRunnerToMake) -> models.Contract:
    """A taskrunner is permanent."""
    return await run(commands.CreateTaskRunner(name=wanted.name), session)


@router.get("/taskrunners/{name:path}/status")
async def status(session: TheSession, name: Name) -> models.TaskRunnerStatus:
    return await run(commands.GetTaskRunnerStatus(name=name), session)


@router.get("/taskrunners/{name:path}/peers/{peer:path}")
async def peer(
    session: TheSession,
    name: Name,
    peer: Annotated[str, Path(max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$", description="Index or UID of the peer.")],
) -> models.PeerStatus:
    return await run(commands.GetTaskRunnerPeerStatus(name=name, peer=peer), session)


@router.post("/taskrunners/{name:path}/assignment", status_code=201)
async def assign(session: TheSession, name: Name, wanted: Assignment) -> models.TaskRunnerStatus:
    """Assigns a task. The taskrunner must be idle, unless ``target`` adds a SWOP to the same task."""
    return await run(wanted.command(name), session)


@router.get("/taskrunners/{name:path}/wait")
async def wait(session: TheSession, name: Name, seconds: Seconds = 60.0) -> models.WaitResult:
    """Waits until the task has ended, but at most for `seconds`; then ask again."""
    following = states(await session.sn(), name, lambda _line: None)
    newest = await anext(following)
    assignment = newest.assignment
    try:
        async with asyncio.timeout(seconds):
            while newest.assignment == assignment and newest.state not in (*OVER, IDLE):
                newest = await anext(following)
    except TimeoutError:
        return models.WaitResult(False, newest)
    finally:
        await following.aclose()
    return models.WaitResult(True, newest)


@router.get(
    "/taskrunners/{name:path}/events",
    response_class=StreamingResponse,
    responses=events.described(models.TaskRunnerStatus),
)
async def watch(session: TheSession, name: Name) -> StreamingResponse:
    """Streams the state of the taskrunner, now and after each change."""
    return await events.answer(states(await session.sn(), name, lambda _line: None))


@router.post("/taskrunners/{name:path}/reset")
async def reset(session: TheSession, name: Name, seconds: Seconds = 60.0) -> models.TaskRunnerStatus:
    """Resets the taskrunner, then waits until its SWOPs have removed what they started, but at most for `seconds`.

    ``released`` of each agent shows whether it has.
    """
    client = await session.sn()
    await client.runners.ResetRunner(pb.ResetRunnerRequest(runner=name))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await WaitForRelease(client, name, session.limits, lambda _line: None).until_released()
    return await run(commands.GetTaskRunnerStatus(name=name), session)


# A name may contain slashes, so this route comes after all with the same beginning.
@router.get("/taskrunners/{name:path}")
async def info(session: TheSession, name: Name) -> models.TaskRunnerInfo:
    """The taskrunner and its SWOPs."""
    return await run(commands.GetTaskRunnerInfo(name=name), session)
