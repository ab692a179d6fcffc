"""SNs of one swarm as processes, and ways for a test to query and disturb them."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from services.identity.rotation import rotate
from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, node_environment
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient

WITHIN_S = 60.0
LOOK_EVERY_S = 0.05
LOST_AFTER_S = 2


class SNNetwork:
    """A license server, and SNs by name. Those left are stopped at the end."""

    def __init__(self, pki: Any, directory: Path, lost_after_s: int = LOST_AFTER_S) -> None:
        self.pki = pki
        self.directory = directory
        self.lost_after_s = lost_after_s  # for SNs started from now on
        self.ports: dict[str, int] = {}
        self.running: dict[str, Child] = {}
        self._license_port = 1  # nothing listens there
        self._files: dict[str, Any] = {}
        self._children: list[Child] = []

    async def license_server(self) -> None:
        child = self._start("ls", "license", "license-server", "--port", "0")
        self._license_port = (await child.ready())["port"]

    async def sentinel(self, name: str = "sn-1") -> None:
        await self._sn(name, "--sentinel")

    async def join(self, name: str, through: str) -> None:
        await self._sn(name, "--sentinel-ip", f"127.0.0.1:{self.ports[through]}")

    async def again(self, name: str) -> None:
        """Restarts an SN from the data on its disk, by the same command, as an operator does."""
        await self._sn(name, "--sentinel")

    def refused(self, name: str, *arguments: str) -> Child:
        """Starts an SN that is not expected to become ready."""
        return self._start(name, "sn", "sn", *self._arguments(), *arguments)

    async def three(self) -> None:
        """sn-2 joins through the sentinel, sn-3 through sn-2; all three seal."""
        await self.license_server()
        await self.sentinel()
        await self.join("sn-2", "sn-1")
        await self.join("sn-3", "sn-2")
        for name in ("sn-1", "sn-2", "sn-3"):
            await self.said(name, "signers now  names=sn-1, sn-2, sn-3")

    async def kill(self, name: str) -> None:
        """Kills an SN with its geth, as when its machine fails."""
        child = self.running.pop(name)
        child.kill()
        await child.wait()

    def rotate(self, name: str) -> None:
        """Makes a new key, to which the old one hands over."""
        files = self._files[name]
        rotate(files.cert, files.key, self.pki.authority)

    def erase(self, name: str) -> None:
        shutil.rmtree(self.directory / name)

    @contextlib.asynccontextmanager
    async def client(self, name: str, role: str = "admin", who: str = "op") -> AsyncIterator[SNClient]:
        async with SNClient(f"localhost:{self.ports[name]}", self.pki.identity(role, who)) as client:
            yield client

    async def create(self, through: str, contract: str) -> str:
        """Creates a training, as a write to the chain; returns its address."""
        async with self.client(through) as client:
            return (await client.admin.CreateContract(pb.CreateContractRequest(name=contract))).location

    async def contracts(self, of: str) -> dict[str, str]:
        async with self.client(of) as client:
            reply = await client.network.ListContracts(pb.ListContractsRequest())
        return {entry.name: entry.location for entry in reply.contracts}

    async def sns(self, of: str) -> dict[str, tuple[int, bool]]:
        """Port and presence of every SN, as listed by one of them."""
        async with self.client(of) as client:
            nodes = (await client.network.ListNodes(pb.ListNodesRequest())).nodes
        return {node.name: (node.port, node.present) for node in nodes if node.role == "sn"}

    async def shows(self, of: str, contract: str, location: str) -> None:
        """Returns once an SN lists a training."""
        await self.until(lambda: self._lists(of, contract, location), f"{of} does not list {contract}")

    async def presence(self, of: str, **wanted: bool) -> None:
        """Returns once an SN lists the others with this presence: ``presence("sn-2", sn_1=False)``."""
        names = {name.replace("_", "-"): there for name, there in wanted.items()}

        async def holds() -> bool:
            known = await self.sns(of)
            return all(known.get(name, (0, None))[1] is there for name, there in names.items())

        await self.until(holds, f"{of} does not list {names}")

    async def parent(self, of: str, sl: str, wanted: str) -> None:
        """Returns once an SN lists an SL with this SN. It learns a moment later of what was written
        through another SN.
        """

        async def holds() -> bool:
            async with self.client(of) as client:
                nodes = (await client.network.ListNodes(pb.ListNodesRequest())).nodes
            return [node.parent for node in nodes if (node.role, node.name) == ("sl", sl)] == [wanted]

        await self.until(holds, f"{of} does not list {sl} with {wanted}")

    async def said(self, name: str, words: str, since: int = 0) -> None:
        """Returns once a line with these words is in the log of an SN, after its first ``since`` characters."""

        async def holds() -> bool:
            return words in self.log(name)[since:]

        await self.until(holds, f"{name} did not say '{words}'")

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    async def stop(self) -> None:
        for child in reversed(self._children):
            assert not await child.stop(), f"{child.name} had to be killed:\n{child.tail()}"

    async def _sn(self, name: str, *arguments: str) -> None:
        child = self.refused(name, *arguments)
        self.running[name] = child
        self.ports[name] = (await child.ready())["port"]

    def _arguments(self) -> list[str]:
        return [
            "--host-ip", "127.0.0.1", "--sn-api-port", "0", "--sn-p2p-port", "0", "--apls-ip", "127.0.0.1",
            "--apls-port", str(self._license_port), "--chain", "geth",
        ]  # fmt: skip

    def trusted(self, files: Any) -> list[str]:
        """The options that say whom a node trusts."""
        return ["--cacert", str(files.cacert)]

    def _start(self, name: str, role: str, *arguments: str) -> Child:
        if name not in self._files:  # a restarted node keeps its files
            self._files[name] = self.pki.issue(role, name)
        files = self._files[name]
        identity = ["--cert", str(files.cert), "--key", str(files.key), *self.trusted(files)]
        argv = (
            sys.executable, "-m", "services.cli", *arguments, "--host", "127.0.0.1",
            "--data-dir", str(self.directory / name), *identity,
        )  # fmt: skip
        environment = (
            node_environment(SN_LOST_AFTER_SECONDS=str(self.lost_after_s)) if role == "sn" else node_environment()
        )
        child = Child.start(Launch(name, argv, self.directory / f"{name}.log", environment, cwd=CODE_ROOT))
        self._children.append(child)
        return child

    async def _lists(self, of: str, contract: str, location: str) -> bool:
        return (await self.contracts(of)).get(contract) == location

    async def until(self, holds: Callable[[], Any], complaint: str) -> None:
        """Returns once ``holds``; fails with the complaint and the logs of all SNs."""
        try:
            async with asyncio.timeout(WITHIN_S):
                while not await holds():
                    await _a_moment()
        except TimeoutError:
            logs = "\n".join(f"== {name}\n{self.log(name)[-3000:]}" for name in self.ports)
            raise AssertionError(f"{complaint}; sns: {logs}") from None


async def _a_moment() -> None:
    """Waits a moment: there is no stream for the logs of SNs."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOOK_EVERY_S):
            await asyncio.Event().wait()
