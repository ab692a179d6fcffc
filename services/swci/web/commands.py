"""POST /exec and POST /uploadTaskDef, as older clients call them; help, nodes and files with types."""

import asyncio
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, UploadFile
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel

from services.swci.catalog import ShowHelp
from services.swci.commands.files import Ls
from services.swci.commands.general import ListNodes
from services.swci.execution import CommandResult, execute
from services.swci.web.caller import TheSession
from services.swci.web.routes import run
from services.swci.web.uploads import store
from services.tasks.definition import read_task
from swarmlearning.swci import models

router = APIRouter()
typed = APIRouter()

MAX_COMMAND = 16 * 1024
# Errors are JSON there, too.
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file was stored.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


class Content(BaseModel):
    """``CONTENT``: the lines that the shell would print. If one begins with ``ERROR ``, the command failed."""

    CONTENT: list[str]


@router.post("/exec")
async def execute_command(
    request: Request, session: TheSession, cmd: Annotated[str, Query(max_length=MAX_COMMAND)]
) -> Content:
    """Runs one command as the shell would. Cancels it if the client disconnects."""
    lines: list[str] = []
    working = asyncio.create_task(execute(session, cmd, lines.append))
    hung_up = asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait({working, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        return Content(CONTENT=_shown(lines, working.result() if working.done() else None))
    finally:
        for task in (working, hung_up):
            task.cancel()
        await asyncio.gather(working, hung_up, return_exceptions=True)


@router.post("/uploadTaskDef", response_class=Response, responses=_TEXT)
async def upload_task_definition(session: TheSession, file: UploadFile) -> PlainTextResponse:
    """Stores a valid task definition in the current directory, for CREATE TASK FROM."""
    name = PurePosixPath(file.filename or "").name
    content = await file.read()
    definition = await asyncio.to_thread(read_task, content, name)
    kept = await asyncio.to_thread(store, session.files, name, content)
    return PlainTextResponse(f"Task definition is valid : {definition.header.name}\nUploaded : {kept}\n")


@typed.get("/nodes")
async def nodes(session: TheSession) -> models.Nodes:
    return await run(ListNodes(), session)


@typed.get("/help")
async def help_(session: TheSession, command: Annotated[str, Query(max_length=MAX_COMMAND)] = "") -> models.Help:
    """All commands of /exec, or those that begin with `command`."""
    return await run(ShowHelp(command=command), session)


@typed.get("/files")
async def files(session: TheSession, path: Annotated[str, Query(min_length=1, max_length=4096)] = ".") -> models.Files:
    """The contents of a directory in the usr-dir."""
    return await run(Ls(path=path), session)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _shown(lines: list[str], answer: CommandResult | None) -> list[str]:
    if answer is None:
        return lines
    return [answer.as_json()] if answer.wants_json else [*lines, *answer.lines]
