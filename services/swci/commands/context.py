"""Commands about contexts: which SN to work with."""

from dataclasses import replace
from importlib.metadata import version
from typing import ClassVar

from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.runtime.addresses import HTTPS_PORT, join_address, split_address
from services.swci.contexts import SnContext
from services.swci.grammar.command import Command, Group, Say
from services.swci.grammar.kinds import CONTEXT, HOST, PORT, SERVICE, TEXT, VARIABLE, argument
from services.swci.session import CommandSession
from services.swci.wording import clean, facts, table, yes
from swarmlearning.swci import models

SN_PORT = 30304
DISTRIBUTION = "swarm-learning"


class ContextCommand(Command):
    group = Group.CONTEXT


class _CreateContext(ContextCommand):
    def show(self, result: models.Context) -> list[str]:
        lines = ["API Server is UP!", f"CONTEXT CREATED : {result.name}"]
        ours = version(DISTRIBUTION)
        if result.version != ours:
            lines.append(f"WARNING : the SN runs version {clean(result.version)}, this SWCI {ours}")
        return lines


class CreateContextWithIP(_CreateContext):
    """Create a context for the SN at an address, after checking that it is up.

    The port is 30304 unless one is given. The first context of a session is active at once.
    """

    syntax: ClassVar[str] = "CREATE CONTEXT <name> WITH IP <ip> [port]"

    name: str = argument(CONTEXT)
    ip: str = argument(HOST)
    port: int = argument(PORT, default=SN_PORT)

    async def run(self, session: CommandSession, say: Say) -> models.Context:
        host, _ = split_address(self.ip, self.port)
        context = SnContext(self.name, host, self.port, "", join_address(host, self.port))
        return await _created(session, context)


class CreateContextWithService(_CreateContext):
    """Create a context for the SN behind a reverse proxy under this name, after checking that it is up.

    The port is 443 unless one is given.
    """

    syntax: ClassVar[str] = "CREATE CONTEXT <name> WITH SERVICE <service>"

    name: str = argument(CONTEXT)
    service: str = argument(SERVICE)

    async def run(self, session: CommandSession, say: Say) -> models.Context:
        host, port = split_address(self.service, HTTPS_PORT)
        address = join_address(host, port)
        return await _created(session, SnContext(self.name, host, port, address, address))


class SwitchContext(ContextCommand):
    """Make a context the active one, which all other commands use."""

    syntax: ClassVar[str] = "SWITCH CONTEXT <name>"

    name: str = argument(CONTEXT)

    async def run(self, session: CommandSession, say: Say) -> models.Context:
        return as_data(session.contexts.switch(self.name), active=True)

    def show(self, result: models.Context) -> list[str]:
        return [f"DEFAULT CONTEXT SET TO : {result.name}"]


class ListContexts(ContextCommand):
    """List the contexts of this session."""

    syntax: ClassVar[str] = "LIST CONTEXTS"

    async def run(self, session: CommandSession, say: Say) -> models.Contexts:
        contexts = session.contexts
        return models.Contexts([as_data(it, active=contexts.is_active(it)) for it in contexts])

    def show(self, result: models.Contexts) -> list[str]:
        if not result.contexts:
            return ["There is no context yet."]
        rows = [("*" if it.active else "", it.name, it.host, it.port, it.version) for it in result.contexts]
        return table(("", "CONTEXT", "HOST", "PORT", "VERSION"), rows)


class GetContextInfo(ContextCommand):
    """Show a context: server, port or service, version and variables."""

    syntax: ClassVar[str] = "GET CONTEXT INFO [name]"

    name: str | None = argument(CONTEXT, default=None)

    async def run(self, session: CommandSession, say: Say) -> models.Context:
        context = session.contexts.named(self.name)
        return as_data(context, active=session.contexts.is_active(context))

    def show(self, result: models.Context) -> list[str]:
        where = ("SERVICE", result.service) if result.service else ("IP", result.host)
        port = [] if result.service else [("PORT", result.port)]
        known = [("SN", result.sn), ("VERSION", result.version), ("ACTIVE", yes(result.active))]
        return [*facts([("CONTEXT", result.name), where, *port, *known]), *_environment(result.environment)]


class GetContextVersion(ContextCommand):
    """Show the version of the active context's SN."""

    syntax: ClassVar[str] = "GET CONTEXT VERSION"

    async def run(self, session: CommandSession, say: Say) -> models.Server:
        return await server(await session.sn())

    def show(self, result: models.Server) -> list[str]:
        return facts([("API SERVER VERSION", result.version), ("SN", result.name), ("CHAIN", result.chain)])


class ListContextEnv(ContextCommand):
    """List the variables of a context."""

    syntax: ClassVar[str] = "LIST CONTEXT ENV [name]"

    name: str | None = argument(CONTEXT, default=None)

    async def run(self, session: CommandSession, say: Say) -> models.Variables:
        context = session.contexts.named(self.name)
        return models.Variables(context.name, dict(context.environment))

    def show(self, result: models.Variables) -> list[str]:
        return _environment(result.environment) or [f"{result.context} has no variables."]


class GetContextEnv(ContextCommand):
    """Show one variable of a context."""

    syntax: ClassVar[str] = "GET CONTEXT ENV [name] <env>"

    name: str | None = argument(CONTEXT, default=None)
    env: str = argument(VARIABLE)

    async def run(self, session: CommandSession, say: Say) -> models.Variables:
        context, value = session.contexts.variable(self.name, self.env)
        return models.Variables(context.name, {self.env: value})

    def show(self, result: models.Variables) -> list[str]:
        return _environment(result.environment)


class SetContextEnv(ContextCommand):
    """Set a variable of a context. A value with spaces stands in quotes."""

    syntax: ClassVar[str] = "SET CONTEXT ENV [name] <env> <value>"

    name: str | None = argument(CONTEXT, default=None)
    env: str = argument(VARIABLE)
    value: str = argument(TEXT)

    async def run(self, session: CommandSession, say: Say) -> models.Variables:
        context = session.contexts.set_variable(self.name, self.env, self.value)
        return models.Variables(context.name, {self.env: self.value})

    def show(self, result: models.Variables) -> list[str]:
        return _environment(result.environment)


async def server(client: SNClient) -> models.Server:
    """The SN at the other end of a connection, as it describes itself."""
    info = await client.network.GetInfo(pb.GetInfoRequest())
    return models.Server(
        name=info.name,
        address=client.address,
        version=info.version,
        chain=info.chain,
        chain_id=info.chain_id,
        block=info.block,
    )


def as_data(context: SnContext, *, active: bool) -> models.Context:
    return models.Context(
        name=context.name,
        active=active,
        host=context.host,
        port=context.port,
        service=context.service,
        sn=context.sn,
        version=context.version,
        environment=dict(context.environment),
    )


async def _created(session: CommandSession, context: SnContext) -> models.Context:
    """Adds a context, but only if its SN answers."""
    session.contexts.check_new(context.name)
    found = await server(await session.client(context.address))
    context = replace(context, sn=found.name, version=found.version)
    session.contexts.add(context)
    return as_data(context, active=session.contexts.is_active(context))


def _environment(environment: dict[str, str]) -> list[str]:
    return [f"{name} = {clean(value)}" for name, value in environment.items()]
