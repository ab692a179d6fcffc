"""/api/v1/tasks: the jobs for SWOPs."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from services.swci.commands import task as commands
from services.swci.usr_dir import FILE_LIMIT_BYTES
from services.swci.web.caller import TheSession
from services.swci.web.routes import Body, Name, NameInBody, Text, run
from services.tasks.definition import read_task
from swarmlearning.swci import models

router = APIRouter()

TaskType = Literal["RUN_SWARM", "MAKE_USER_CONTAINER", "PULL_IMAGE", "MAKE_SWARM_USER_CONTENT"]


class Header(Body):
    """A task without a body."""

    type: TaskType
    name: NameInBody
    author: Text
    prereq: NameInBody
    outcome: Text


class TaskFile(Body):
    """``file``: a YAML file in the usr-dir."""

    file: Annotated[str, Field(min_length=1, max_length=4096)]


class TaskText(Body):
    """``text``: a task definition in YAML."""

    text: Annotated[str, Field(min_length=1, max_length=FILE_LIMIT_BYTES)]


class BodyLine(Body):
    text: Text


@router.get("/tasks")
async def tasks(session: TheSession) -> models.Tasks:
    return await run(commands.ListTasks(), session)


@router.post("/tasks", status_code=201)
async def create(session: TheSession, wanted: Header) -> models.Task:
    return await run(
        commands.CreateTask(
            type=wanted.type, name=wanted.name, author=wanted.author, prereq=wanted.prereq, outcome=wanted.outcome
        ),
        session,
    )


@router.post("/tasks/from-file", status_code=201)
async def create_from_file(session: TheSession, wanted: TaskFile) -> models.Task:
    """Creates a task from a file, unless its definition is invalid."""
    return await run(commands.CreateTaskFrom(file=wanted.file), session)


@router.post("/tasks/from-text", status_code=201)
async def create_from_text(session: TheSession, wanted: TaskText) -> models.Task:
    """Creates a task from a definition in the request, unless it is invalid."""
    definition = await asyncio.to_thread(read_task, wanted.text.encode(), "text")
    return await commands.registered(session, definition, lambda _line: None)


@router.get("/tasks/{name:path}/body")
async def body(session: TheSession, name: Name) -> models.TaskBody:
    return await run(commands.GetTaskBody(name=name), session)


@router.put("/tasks/{name:path}/body/{line}")
async def append(
    session: TheSession, name: Name, line: Annotated[int, Path(ge=1, le=100_000)], wanted: BodyLine
) -> models.TaskBody:
    """Replaces a line, or appends one after the last."""
    return await run(commands.AppendTaskBody(name=name, idx=line, line=wanted.text), session)


@router.post("/tasks/{name:path}/finalize")
async def finalize(session: TheSession, name: Name) -> models.Task:
    """Finalizes a task: it can no longer be changed or deleted, and can be assigned."""
    return await run(commands.FinalizeTask(name=name), session)


@router.delete("/tasks/{name:path}")
async def delete(session: TheSession, name: Name) -> models.Message:
    """Deletes a task that is not finalized."""
    return await run(commands.DeleteTask(name=name), session)


# A name may contain slashes, so this route comes after all with the same beginning.
@router.get("/tasks/{name:path}")
async def info(session: TheSession, name: Name) -> models.Task:
    return await run(commands.GetTaskInfo(name=name), session)
