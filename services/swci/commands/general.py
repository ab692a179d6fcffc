"""Commands about nodes, waiting, and the session itself."""

import asyncio
import time
from abc import abstractmethod
from typing import ClassVar

from services.errors import NetworkError, NotUpInTime, SNOfAnotherVersion
from services.rpc import swarm_pb2 as pb
from services.rpc.wording import ends_soon
from services.runtime.addresses import HTTPS_PORT, join_address, split_address
from services.swci import translation
from services.swci.commands.context import SN_PORT, server
from services.swci.grammar.command import Command, Group, Say
from services.swci.grammar.kinds import (
    HOST,
    KEY,
    MEMBER_ROLE,
    PORT,
    RETRIES,
    SECONDS,
    SERVICE,
    SWITCH,
    argument,
    name_of,
)
from services.swci.session import CommandSession
from services.swci.wording import age, clean, heard, table
from swarmlearning.swci import models

TRY_S = 5.0  # for each allowed retry
PAUSE_S = 0.5  # between two tries
RETRIES_BY_DEFAULT = 360
SEPARATOR = ", "


class GeneralCommand(Command):
    group = Group.MISCELLANEOUS


class ListNodes(GeneralCommand):
    """List the nodes of the swarm, when each was last seen, and whose certificate expires. Their UID is their name.

    Where organizations have something to vote on, the numbers of the proposals follow.
    """

    syntax: ClassVar[str] = "LIST NODES"

    async def run(self, session: CommandSession, say: Say) -> models.Nodes:
        client = await session.sn()
        voting = await client.network.ListOrganizations(pb.ListOrganizationsRequest())
        return translation.nodes(await client.network.ListNodes(pb.ListNodesRequest()), voting)

    def show(self, result: models.Nodes) -> list[str]:
        columns = ["TYPE", "HOST", "PORT", "NAME", "PARENT", "STATE", "LAST I-AM-ALIVE", "CERTIFICATE"]
        rows = [
            [it.type, it.host or "-", it.port or "-", it.name, it.parent or "-", "PRESENT" if it.present else "LEFT",
             heard(it.last_seen), it.fingerprint[:16]]
            for it in result.nodes
        ]  # fmt: skip
        if any(it.organization for it in result.nodes):
            columns.append("ORGANIZATION")
            rows = [[*row, it.organization or "-"] for row, it in zip(rows, result.nodes, strict=True)]
        soon = [ends_soon(f"{it.type} {it.name}", it.certificate_ends, time.time()) for it in result.nodes]
        numbers = ", ".join(map(str, result.open_proposals))
        votes = [f"OPEN PROPOSALS : {numbers} (LIST ORGANIZATIONS shows them)"] if numbers else []
        return [*table(columns, rows, SEPARATOR), *filter(None, soon), *votes]


class ReplaceKey(GeneralCommand):
    """Replace a node's lost or stolen key by another one; the old key is refused at once.

    The fingerprint is the "public key" that `swarm certs show` tells of the node's new certificate.
    """

    syntax: ClassVar[str] = "REPLACE KEY <role> <node> <fingerprint>"

    role: str = argument(MEMBER_ROLE)
    node: str = argument(name_of("node"))
    fingerprint: str = argument(KEY)

    async def run(self, session: CommandSession, say: Say) -> models.Message:
        client = await session.sn()
        request = pb.ReplaceKeyRequest(role=self.role, name=self.node, fingerprint=bytes.fromhex(self.fingerprint))
        names = (await client.admin.ReplaceKey(request)).names
        return models.Message(f"KEY REPLACED : {', '.join(names) or 'it was known already'}")

    def show(self, result: models.Message) -> list[str]:
        return [clean(result.text)]


class _WaitForServer(GeneralCommand):
    retries: int = argument(RETRIES, default=RETRIES_BY_DEFAULT)

    async def run(self, session: CommandSession, say: Say) -> models.Server:
        """Tries until the SN answers, for five seconds per retry. Errors that waiting cannot cure are
        raised at once.
        """
        host, port = self._server()
        address, limit_s, began = join_address(host, port), self.retries * TRY_S, time.monotonic()
        say(f"WAITING FOR API SERVER {address} - Maximum wait time is : {age(limit_s)}")
        client, problem = await session.client(address), ""
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    try:
                        return await server(client)
                    except SNOfAnotherVersion:
                        raise
                    except NetworkError as error:
                        if clean(str(error)) != problem:
                            problem = clean(str(error))
                            say(f"# {age(time.monotonic() - began)} : {problem}")
                    await asyncio.sleep(PAUSE_S)
        except TimeoutError:
            raise NotUpInTime(peer="The SN", address=address, limit=age(limit_s), problem=problem) from None

    def show(self, result: models.Server) -> list[str]:
        return ["API Server is UP!", f"SN : {result.name} at {result.address}"]

    @abstractmethod
    def _server(self) -> tuple[str, int]:
        """Host and port of the SN's API."""


class WaitForIP(_WaitForServer):
    """Wait until the SN at an address is up: for 5 seconds times the number of retries, half an hour by default."""

    syntax: ClassVar[str] = "WAIT FOR IP <ip> [port] [retries]"

    ip: str = argument(HOST)
    port: int = argument(PORT, default=SN_PORT)

    def _server(self) -> tuple[str, int]:
        return split_address(self.ip, self.port)[0], self.port


class WaitForService(_WaitForServer):
    """Wait until the SN behind a reverse proxy under this name is up: 5 seconds times the number of retries."""

    syntax: ClassVar[str] = "WAIT FOR SERVICE <service> [retries]"

    service: str = argument(SERVICE)

    def _server(self) -> tuple[str, int]:
        return split_address(self.service, HTTPS_PORT)


class Sleep(GeneralCommand):
    """Wait for a number of seconds. Ctrl-C ends it."""

    syntax: ClassVar[str] = "SLEEP <seconds>"

    seconds: float = argument(SECONDS)

    async def run(self, session: CommandSession, say: Say) -> models.Message:
        await asyncio.sleep(self.seconds)
        return models.Message(f"Slept for {self.seconds:g} s")

    def show(self, result: models.Message) -> list[str]:
        return [result.text]


class ExitOnFailure(GeneralCommand):
    """End the session at the first command that fails, with a non-zero exit code. ON without a word."""

    syntax: ClassVar[str] = "EXIT ON FAILURE [ON|OFF]"

    switch: str = argument(SWITCH, default="ON")

    async def run(self, session: CommandSession, say: Say) -> models.Message:
        session.exit_on_failure = self.switch == "ON"
        return models.Message(f"EXIT ON FAILURE IS TURNED {self.switch}")

    def show(self, result: models.Message) -> list[str]:
        return [result.text]


class Exit(GeneralCommand):
    """End the session."""

    syntax: ClassVar[str] = "EXIT"

    async def run(self, session: CommandSession, say: Say) -> models.Message:
        session.ended = True
        return models.Message("")

    def show(self, result: models.Message) -> list[str]:
        return []
