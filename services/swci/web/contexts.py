"""/api/v1/contexts: the SNs that a session works with."""

from fastapi import APIRouter
from pydantic import Field

from services.errors import CommandError
from services.swci.commands import context as commands
from services.swci.web.caller import TheSession
from services.swci.web.routes import Body, Name, NameInBody, Port, Text, run
from swarmlearning.swci import models

router = APIRouter()


class ContextToMake(Body):
    """Either ``ip``, optionally with ``port``, or ``service``."""

    name: NameInBody
    ip: Text | None = Field(None, examples=["10.0.0.1"])
    port: Port = commands.SN_PORT
    service: Text | None = Field(None, examples=["api.sn-1.swarm"])

    def command(self) -> commands.CreateContextWithIP | commands.CreateContextWithService:
        """Raises CommandError."""
        if (self.ip is None) == (self.service is None):
            raise CommandError(problem="either ip or service must be given", usage="one of them")
        if self.service is not None:
            return commands.CreateContextWithService(name=self.name, service=self.service)
        return commands.CreateContextWithIP(name=self.name, ip=self.ip or "", port=self.port)


class Value(Body):
    value: Text


@router.get("/server")
async def server(session: TheSession) -> models.Server:
    """The SN of the active context."""
    return await run(commands.GetContextVersion(), session)


@router.get("/contexts")
async def contexts(session: TheSession) -> models.Contexts:
    return await run(commands.ListContexts(), session)


@router.post("/contexts", status_code=201)
async def create(session: TheSession, wanted: ContextToMake) -> models.Context:
    """Creates a context if its SN answers."""
    return await run(wanted.command(), session)


@router.put("/contexts/{name:path}/active")
async def switch(session: TheSession, name: Name) -> models.Context:
    """Makes this context the active one, which all other requests of the session use."""
    return await run(commands.SwitchContext(name=name), session)


@router.get("/contexts/{name:path}/environment")
async def environment(session: TheSession, name: Name) -> models.Variables:
    return await run(commands.ListContextEnv(name=name), session)


@router.get("/contexts/{name:path}/environment/{variable:path}")
async def variable(session: TheSession, name: Name, variable: Name) -> models.Variables:
    return await run(commands.GetContextEnv(name=name, env=variable), session)


@router.put("/contexts/{name:path}/environment/{variable:path}")
async def set_variable(session: TheSession, name: Name, variable: Name, wanted: Value) -> models.Variables:
    return await run(commands.SetContextEnv(name=name, env=variable, value=wanted.value), session)


# A name may contain slashes, so this route comes after all with the same beginning.
@router.get("/contexts/{name:path}")
async def info(session: TheSession, name: Name) -> models.Context:
    return await run(commands.GetContextInfo(name=name), session)
