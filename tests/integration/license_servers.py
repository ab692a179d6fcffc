"""License servers as processes, and nodes that call them directly, for tests of what outlives a server."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from services.identity.identity import Identity
from services.license_server.main import serve
from services.license_server.services import Services
from services.local.process import Child, Launch, node_environment
from tests.free_ports import free_port

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60


class Servers:
    """Servers by name; each keeps its port and data over a restart. Those left are stopped at the end."""

    def __init__(self, pki: Any, directory: Path) -> None:
        self._pki, self._directory = pki, directory
        self._children: dict[str, Child] = {}
        self._files: dict[str, Any] = {}
        self._ports: dict[str, int] = {}
        self._starts = 0

    def port(self, name: str) -> int:
        return self._ports.setdefault(name, free_port())

    def address(self, name: str) -> str:
        return f"localhost:{self.port(name)}"

    def log(self, name: str) -> str:
        return self._children[name].log.read_text()

    def pid(self, name: str) -> int:
        return self._children[name].pid

    async def start(self, name: str, *flags: str, data: str = "") -> Child:
        """Returns when it is ready."""
        files = self._files.setdefault(name, self._pki.issue("license", name))
        argv = (
            sys.executable, "-m", "services.cli", "license-server", "--host", "127.0.0.1",
            "--port", str(self.port(name)), "--data-dir", str(self._directory / (data or name)),
            "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(self._pki.cacert), *flags,
        )  # fmt: skip
        self._starts += 1
        log = self._directory / f"{name}-{self._starts}.log"
        child = Child.start(Launch(name, argv, log, node_environment(), cwd=ROOT))
        self._children[name] = child
        await child.ready()
        return child

    async def kill(self, name: str) -> None:
        """Kills it (SIGKILL) and waits for its end."""
        self._children[name].kill()
        await self._children[name].wait()

    async def stop(self) -> None:
        for child in self._children.values():
            await child.stop()


@contextlib.asynccontextmanager
async def license_servers(pki: Any, directory: Path) -> AsyncIterator[Servers]:
    servers = Servers(pki, directory)
    try:
        yield servers
    finally:
        await servers.stop()


@contextlib.asynccontextmanager
async def served(services: Services, pki: Any) -> AsyncIterator[str]:
    """A license server in this process; yields its address."""
    stop, started = asyncio.Event(), asyncio.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    running = asyncio.create_task(serve(services, pki.identity("license", "ls-1"), listening, stop, started.set))
    await started.wait()
    try:
        yield f"https://localhost:{listening.getsockname()[1]}"
    finally:
        stop.set()
        await running


class Caller:
    """One node that makes single requests. ``lease`` and ``token``: those of its last seat."""

    def __init__(self, identity: Identity) -> None:
        self.name = identity.name
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=identity.client_context()),
            timeout=aiohttp.ClientTimeout(total=DEADLINE_S),
        )
        self.lease, self.token = "", 0

    async def close(self) -> None:
        await self._session.close()

    async def acquire(self, address: str, feature: str = "SL") -> int:
        """Returns the status; raises aiohttp.ClientError if nobody answers."""
        async with self._session.post(f"https://{address}/v1/leases", json={"feature": feature}) as response:
            answer = await response.json()
            if response.status == 200:
                self.lease, self.token = answer["lease"], answer["token"]
            return response.status

    async def renew(self, address: str) -> int:
        url = f"https://{address}/v1/leases/{self.lease}/renew"
        async with self._session.post(url, json={"token": self.token}) as response:
            await response.read()
            return response.status

    async def release(self, address: str) -> int:
        url = f"https://{address}/v1/leases/{self.lease}?token={self.token}"
        async with self._session.delete(url) as response:
            return response.status

    async def status(self, address: str, feature: str = "SL") -> dict[str, Any]:
        async with self._session.get(f"https://{address}/v1/status") as response:
            found: dict[str, Any] = (await response.json())["features"][feature]
            return found

    async def until_answered(self, what: Any, *, within_s: float = DEADLINE_S) -> int:
        """Repeats the request while nobody answers or the server is on standby."""
        async with asyncio.timeout(within_s):
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    status: int = await what()
                    if status != 503:
                        return status
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def callers(pki: Any, numbers: range) -> AsyncIterator[list[Caller]]:
    found = [Caller(pki.identity("sl", f"sl-{number}")) for number in numbers]
    try:
        yield found
    finally:
        for caller in found:
            await caller.close()
