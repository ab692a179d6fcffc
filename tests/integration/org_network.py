"""SNs of several organizations as processes. Each organization has its own CA, and all use one trust file.

Names begin with the organization's letter: a-1 is a node of hospital-a, which also has the license server.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml
from sn_network import SNNetwork
from two_organizations import HOSTS

from services.identity.authority import Authority, IssuedFiles
from services.identity.identity import Identity
from services.local.plan import CODE_ROOT
from services.local.process import Child, node_environment
from services.rpc.client import SNClient

LICENSE_SERVER = "ls"
ROLES = ("sn", "sl", "swop", "swci", "admin")


class Organizations:
    """``hospital-a`` and so on, for each letter."""

    def __init__(self, directory: Path, letters: str) -> None:
        self.directory = directory
        self.authorities = {it: Authority.create(directory / it, f"Hospital {it}", f"{it}.example") for it in letters}
        of = [
            {
                "name": f"hospital-{it}",
                "trust_domain": f"{it}.example",
                "cas": [f"{it}/ca-cert.pem"],
                "issues": {role: [f"{it}-*"] for role in ROLES} | ({"license": [LICENSE_SERVER]} if it == "a" else {}),
            }
            for it in letters
        ]
        self.trust.write_text(yaml.safe_dump({"organizations": of}))

    @property
    def trust(self) -> Path:
        return self.directory / "trust.yaml"

    def issue(self, role: str, name: str) -> IssuedFiles:
        authority = self.authorities["a" if name == LICENSE_SERVER else name[0]]
        return authority.issue(role, name, HOSTS, self.directory / f"{role}-{name}", force=True)

    def identity(self, role: str, name: str) -> Identity:
        files = self.issue(role, name)
        return Identity.load(cert=files.cert, key=files.key, trust=self.trust)


class OrgNetwork(SNNetwork):
    """Administrators act by `swarm org`, as a process, through an SN of their organization."""

    def __init__(self, directory: Path, letters: str) -> None:
        self.organizations = Organizations(directory, letters)
        super().__init__(self.organizations, directory)

    def trusted(self, files: Any) -> list[str]:
        return ["--trust", str(self.organizations.trust)]

    @contextlib.asynccontextmanager
    async def client(self, name: str, role: str = "admin", who: str = "") -> AsyncIterator[SNClient]:
        async with SNClient(f"localhost:{self.ports[name]}", self.pki.identity(role, who or f"{name[0]}-op")) as client:
            yield client

    async def org(self, sn: str, *words: str, as_json: bool = False) -> Any:
        """The output of `swarm org`, called by an administrator of the SN's organization; it must succeed."""
        files = self.organizations.issue("admin", f"{sn[0]}-ada")
        asked = ["--sn-ip", "127.0.0.1", "--sn-api-port", str(self.ports[sn]), *self.trusted(files)]
        identity = ["--cert", str(files.cert), "--key", str(files.key), *(["--json"] if as_json else [])]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.cli", "org", *words, *asked, *identity,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=node_environment(), cwd=CODE_ROOT,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return json.loads(said) if as_json else said.decode()

    async def sl(self, name: str, through: str) -> Child:
        """Starts an SL with this SN; returns once it waits for its training program."""
        addresses = ["--sn-ip", "127.0.0.1", "--sn-api-port", str(self.ports[through]), "--host-ip", "127.0.0.1"]
        licensed = ["--apls-ip", "127.0.0.1", "--apls-port", str(self._license_port)]
        child = self._start(name, "sl", "sl", *addresses, "--sl-fs-port", "0", *licensed)
        await child.ready()
        return child

    async def joins(self, name: str, through: str, *voters: str) -> None:
        """Starts an SN that is voted in while it asks. ``voters``: an SN of each organization whose vote is needed."""
        joining = asyncio.create_task(self.join(name, through))
        await self.until(lambda: self._asks(name), f"{name} does not wait for votes")
        for voter in voters:
            number = await self._request(voter, name)
            await self.org(voter, "approve", str(number))
        await joining

    async def _asks(self, name: str) -> bool:
        return (self.directory / f"{name}.log").exists() and "must be approved first" in self.log(name)

    async def _request(self, voter: str, name: str) -> int:
        numbers: list[int] = []

        async def holds() -> bool:
            listed = await self.org(voter, "list", as_json=True)
            numbers[:] = [it["number"] for it in listed["proposals"] if it["node"] == name]
            return bool(numbers)

        await self.until(holds, f"{voter} does not show that {name} asks to come in")
        return numbers[0]
