"""Organizations that run the containers of their start-up kits, each on a network of its own as on its own host."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pyzipper
import yaml
from compose_swarms import PROGRAMS
from images import ML, TAG, named

from examples.digits.compose_swarm import USER, ContainersFailed, docker, run
from services.errors import PeerNotAccepted
from services.identity.identity import Identity
from services.local.swarm import CONTRACT
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from swarmlearning.swci import Swci, SwciError
from tests.free_ports import free_port

SWARM = str(Path(sys.executable).with_name("swarm"))
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
STARTS = 4
MODE_BITS = 16  # of a file's attributes in an archive


def address(number: int) -> str:
    """Of the host of a site: other sites reach the ports there that its containers publish."""
    return f"10.213.{number}.1"


def network(number: int) -> dict[str, Any]:
    """What is added to the Compose file of a site: a network that no other site is in."""
    subnet = {"subnet": f"10.213.{number}.0/24", "gateway": address(number)}
    return {"networks": {"default": {"ipam": {"config": [subnet]}}}}


def node(site: int, name: str, role: str, **more: str) -> dict[str, Any]:
    """Of a project file. All sites publish on one machine here, so each port is one of its own."""
    found: dict[str, Any] = {"name": name, "role": role, "address": address(site), "port": free_port(), **more}
    return {**found, "p2p_port": free_port()} if role == "sn" else found


@dataclass
class Site:
    """One organization. ``kit``: where it unpacks what it gets; ``ca``: where its own CA is, which nobody else sees."""

    number: int
    name: str
    directory: Path

    @property
    def kit(self) -> Path:
        return self.directory / self.name

    @property
    def ca(self) -> Path:
        return self.directory / "ca"

    @property
    def trust(self) -> Path:
        return self.kit / "trust" / "trust.yaml"

    @property
    def project(self) -> str:
        return f"kit-{self.name}-{os.getpid()}"

    async def make_ca(self) -> Path:
        """The certificate, which goes to the coordinator."""
        self.directory.mkdir()
        await run(SWARM, "certs", "ca", "--dir", str(self.ca), "--organization", self.name)
        return self.ca / "ca-cert.pem"

    def unpack(self, made: Path) -> None:
        """The kit with the password that came by another way, over what is there."""
        with pyzipper.AESZipFile(made / f"{self.name}.zip") as archive:
            archive.setpassword((made / f"{self.name}.password").read_bytes().strip())
            for info in archive.infolist():
                path = Path(archive.extract(info, self.directory))
                path.chmod(info.external_attr >> MODE_BITS & 0o777)
        self.hand_over()

    async def certify(self) -> None:
        """Makes keys, and has its CA answer the requests."""
        certs = self.kit / "certs"
        await run(SWARM, "certs", "request", str(certs / "requests.yaml"))
        await run(SWARM, "certs", "sign", "--dir", str(self.ca), *map(str, sorted(certs.glob("*/*.csr"))))
        self.hand_over()

    async def renew(self, name: str, *command: str) -> None:
        """A new certificate, and perhaps key, for a node that runs; returns once it says that it has taken them."""
        cert, key = (self.kit / "certs" / name / f"{name}-{kind}.pem" for kind in ("cert", "key"))
        files = ("--cert", str(cert), "--key", str(key)) if "rotate" in command else (str(cert),)
        await run(SWARM, *command, "--dir", str(self.ca), *files)
        self.hand_over()
        async with asyncio.timeout(60):
            while "loaded new certificate files" not in await self.said(name):
                pass  # each time a process of its own

    def settle(self) -> None:
        """What a site adds to its kit: its own training program, and a network that no other site is in."""
        shutil.copyfile(PROGRAMS / "train.py", self.kit / "programs" / "train.py")
        (self.kit / "compose.override.yaml").write_text(yaml.safe_dump(network(self.number)))
        owner = f"{self.kit.stat().st_uid}:{self.kit.stat().st_gid}"
        settings = {"RUN_AS": owner, "TAG": TAG, "ML_IMAGE": named(ML), "PUBLISH_ON": address(self.number)}
        (self.kit / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self.hand_over()

    def hand_over(self) -> None:
        """To the user of the containers."""
        if os.getuid() == 0:
            for path in [self.kit, *self.kit.rglob("*")]:
                os.chown(path, USER, USER)

    async def compose(self, *words: str, **environment: str) -> str:
        """`docker compose` in the directory of the kit."""
        command = ("compose", "-p", self.project, "--project-directory", str(self.kit), *words)
        return await docker(*command, environment=environment)

    async def up(self) -> None:
        """Returns when all nodes are ready. One that was too early ends, and Docker starts it again."""
        for left in reversed(range(STARTS)):
            try:
                await self.compose("up", "--detach", "--wait", "--quiet-pull")
            except ContainersFailed as error:
                if not left:
                    raise AssertionError(f"{error}\n{await self.said()}") from None
            else:
                return

    def told_to(self, command: str) -> list[str]:
        """What the page of the kit says to type, from the name of the command of Compose on."""
        lines = (line.partition("#")[0].strip() for line in (self.kit / "README.md").read_text().splitlines())
        (said,) = (line for line in lines if line.startswith(command))
        return said.removeprefix("docker compose ").split()

    async def train(self, sl: str, program: str) -> None:
        await self.compose("up", "--detach", f"ml-for-{sl}", PROGRAM=program)

    async def exit_code(self, service: str) -> int:
        """When it has ended."""
        return int(await docker("wait", f"{self.project}-{service}-1"))

    async def said(self, *services: str) -> str:
        return (await self.compose("logs", "--no-color", "--tail", "40", *services))[-12_000:]

    async def ends(self, name: str) -> str:
        """What a node says that cannot start; it is not started again."""
        with pytest.raises(ContainersFailed) as ended:
            await self.compose("run", "--rm", "--no-deps", "-T", name)
        return str(ended.value.facts["output"])

    async def asks_to_join(self, name: str, sn: str) -> str:
        """What an SN hears that wants to be one of the chain, whatever a license server says of it."""
        async with SNClient(sn, self.identity(name)) as client:
            with pytest.raises(PeerNotAccepted) as refused:
                await client.peering.Join(pb.JoinRequest(account=f"0x{1:040x}"))
        return str(refused.value)

    async def asks_a_license_server(self, name: str, server: str) -> str:
        """What an administrator reads who is not let in."""
        shown = self.identity(name)
        files = ("--cert", str(shown.cert), "--key", str(shown.key), "--trust", str(self.trust))
        with pytest.raises(ContainersFailed) as ended:
            await run(SWARM, "license", "--server", server, *files, "pools")
        return str(ended.value.facts["output"])

    async def asks_a_swci(self, name: str, swci: str) -> str:
        """What a program that sends commands to the first site is told where it is not let in."""
        host, _, port = swci.rpartition(":")
        shown = self.identity(name)
        cas = self.kit / "trust" / "hospital-a-cas.pem"
        client = Swci(host, int(port), str(shown.cert), str(shown.key), str(cas))
        with pytest.raises(SwciError) as refused:
            await asyncio.to_thread(client.listNodes)
        return str(refused.value)

    async def looks(self, name: str, *peers: str) -> list[dict[str, str]]:
        """What the checks before a start find, out of the container of a node."""
        options = " ".join(f"--peer {peer}" for peer in peers)
        command = f"swarm preflight --engine none --json {options}; true"
        said = await self.compose("run", "--rm", "--no-deps", "-T", "--entrypoint", "sh", name, "-c", command)
        return list(json.loads(said)["checks"])

    async def command(self, words: str) -> None:
        """To the REST API of its SWCI, which only this host reaches."""
        url = f"https://{address(self.number)}:{self.setting('swci-1', 'SWCI_WEB_PORT')}/exec"
        async with httpx.AsyncClient(verify=self.identity("swci-1").client_context()) as client:
            answer = await client.post(url, params={"cmd": words}, timeout=60)
        assert answer.status_code == httpx.codes.OK, answer.text

    async def org(self, administrator: str, *words: str) -> Any:
        """What `swarm org` tells an administrator of this site, who asks its SN."""
        shown = self.identity(administrator)
        files = ("--cert", str(shown.cert), "--key", str(shown.key), "--trust", str(self.trust))
        port = self.setting(f"sn-{self.number}", "SN_API_SERVER_PORT")
        where = ("--sn-ip", address(self.number), "--sn-api-port", port)
        return json.loads(await run(SWARM, "org", *words, "--json", *where, *files))

    def setting(self, name: str, variable: str) -> str:
        """Of a node of this kit."""
        lines = (self.kit / "nodes" / f"{name}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines[1:])[variable]

    async def final_digest(self) -> str:
        """Of the model of the last round, as the SN of this site knows it."""
        sn = f"sn-{self.number}"
        port = self.setting(sn, "SN_API_SERVER_PORT")
        async with SNClient(f"{address(self.number)}:{port}", self.identity(sn)) as client:
            status = await client.training.GetStatus(pb.GetStatusRequest(contract=CONTRACT))
        return status.last_result.digest.hex()

    def identity(self, name: str) -> Identity:
        certs = self.kit / "certs" / name
        return Identity.load(cert=certs / f"{name}-cert.pem", key=certs / f"{name}-key.pem", trust=self.trust)

    async def down(self) -> None:
        if self.kit.exists():
            await self.compose("--profile", "train", "down", "--volumes", "--timeout", "5", "--remove-orphans")


@contextlib.asynccontextmanager
async def gone_at_the_end(*sites: Site) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await asyncio.gather(*(site.down() for site in sites))
