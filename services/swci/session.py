"""One user's session: contexts, files, what to do on failures, and connections to SNs."""

import asyncio
import contextlib
from dataclasses import dataclass

from services.identity.identity import Identity
from services.rpc.client import SNClient
from services.swci.contexts import SnContexts
from services.swci.usr_dir import UsrDir


@dataclass(frozen=True)
class WaitLimits:
    """How many minutes WAIT FOR TASKRUNNER waits: for RUN_SWARM, and for other types of task."""

    run_task_min: float = 120.0
    generic_task_min: float = 120.0


class CommandSession:
    """``executed`` counts commands that succeeded. Close the session at the end: it holds one connection
    per address.
    """

    def __init__(
        self, identity: Identity, files: UsrDir, limits: WaitLimits, contexts: SnContexts | None = None
    ) -> None:
        self.files = files
        self.limits = limits
        self.contexts = contexts or SnContexts()
        self.exit_on_failure = False
        self.ended = False
        self.executed = 0
        self._identity = identity
        self._stack = contextlib.AsyncExitStack()
        self._clients: dict[str, SNClient] = {}
        self._opening = asyncio.Lock()

    def another(self) -> "CommandSession":
        """A separate session that begins with the contexts of this one."""
        return CommandSession(self._identity, self.files.copy(), self.limits, self.contexts.copy())

    async def sn(self, context: str | None = None) -> SNClient:
        """The SN of a context, by default of the active one. Raises NoContext, UnknownContext."""
        return await self.client(self.contexts.named(context).address)

    async def client(self, address: str) -> SNClient:
        """One connection per address, kept until the session ends."""
        async with self._opening:
            if address not in self._clients:
                client = SNClient(address, self._identity)
                self._clients[address] = await self._stack.enter_async_context(client)
            return self._clients[address]

    async def close(self) -> None:
        self._clients.clear()
        await self._stack.aclose()
