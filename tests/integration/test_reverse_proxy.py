"""A swarm whose nodes reach each other only through nginx, with the configuration from the docs."""

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from proxied_hosts import PROXY, ProxiedHosts, proxied_hosts

from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, node_environment, program_environment
from swarm_callback.digest import digest_of_file

CONFIGURATION = CODE_ROOT / "docs" / "reverse-proxy" / "nginx.conf"
PROGRAM = CODE_ROOT / "tests" / "e2e" / "programs" / "train.py"
DOMAIN = "hospital.example"
LICENSES = ("--apls-ip", f"license.{DOMAIN}", "--apls-port", "443")

# A handshake with a server name by an accepted peer, and its result.
HANDSHAKE = """
import socket, ssl, sys
cert, key, cacert, host, name = sys.argv[1:]
context = ssl.create_default_context(cafile=cacert)
context.load_cert_chain(cert, key)
context.check_hostname = False
try:
    with socket.create_connection((host, 443), 5) as raw, context.wrap_socket(raw, server_hostname=name or None) as tls:
        print([value for kind, value in tls.getpeercert()["subjectAltName"] if kind == "URI"][0])
except ssl.SSLEOFError:
    print("hung up")
"""


@dataclass
class Proxied:
    """Nodes by name, each a process on its host."""

    pki: Any
    directory: Path
    hosts: ProxiedHosts
    files: dict[str, Any] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)

    async def node(self, role: str, host: str, names: list[str], *arguments: str) -> None:
        """Starts a node; returns once it is ready. ``names``: the host names in its certificate."""
        files = self.files[host] = self.pki.issue(role, host, hosts=names)
        argv = (
            sys.executable, "-m", "services.cli", *arguments, "--data-dir", str(self.directory / host),
            "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert),
        )  # fmt: skip
        log, environment = self.directory / f"{host}.log", node_environment()
        child = Child.start(Launch(host, self.hosts.on(host, *argv), log, environment, cwd=CODE_ROOT))
        self.children.append(child)
        await child.ready()

    async def sn(self, name: str, *through: str) -> None:
        api, p2p = f"api.{name}.{DOMAIN}", f"p2p.{name}.{DOMAIN}"
        services = ["--sn-api-service", api, "--sn-p2p-service", f"{p2p}:443"]
        await self.node("sn", name, [api, p2p], "sn", *through, *services, "--chain", "geth", *LICENSES)

    async def sl(self, name: str, sn: str) -> None:
        services = ["--sl-fs-service", f"fs.{name}.{DOMAIN}", "--sn-api-service", f"api.{sn}.{DOMAIN}"]
        await self.node("sl", name, [f"fs.{name}.{DOMAIN}"], "sl", *services, *LICENSES)

    async def trains(self, *sls: str) -> list[bytes]:
        """Trains; returns digests of the final models."""
        programs = []
        for index, sl in enumerate(sls):
            environment = program_environment(
                SL_REQUEST_CHANNEL=str(self.directory / sl / "request.channel"),
                SL_RESPONSE_CHANNEL=str(self.directory / sl / "response.channel"),
                SWARM_NODE_INDEX=str(index), SWARM_NODE_COUNT=str(len(sls)),
            )  # fmt: skip
            argv = (sys.executable, str(PROGRAM), "train", str(self.directory), "3")
            launch = Launch(f"ml-{index}", argv, self.directory / f"ml-{index}.log", environment, is_node=False)
            programs.append(Child.start(launch))
        self.children += programs
        async with asyncio.timeout(120):
            for program in programs:
                assert await program.wait() == 0, program.tail()
        return [digest_of_file(self.directory / f"{index}.safetensors").digest() for index in range(len(sls))]

    def answers(self, host: str, name: str) -> str:
        """Who answers if a peer on this host calls the proxy with a server name; ``""``: without one."""
        files = self.files[host]
        shown = [str(path) for path in (files.cert, files.key, files.cacert)]
        argv = self.hosts.on(host, sys.executable, "-c", HANDSHAKE, *shown, PROXY, name)
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    async def stop(self) -> None:
        for child in reversed(self.children):
            assert not await child.stop(), f"{child.name} had to be killed:\n{child.tail()}"


@contextlib.contextmanager
def nginx(hosts: ProxiedHosts, directory: Path) -> Iterator[None]:
    """Runs nginx on the proxy's host with the unchanged file. It goes to the background once its ports are open."""
    process = directory / "nginx.pid"
    argv = ("nginx", "-c", str(CONFIGURATION), "-e", str(directory / "nginx.log"), "-g", f"pid {process};")
    done = subprocess.run(hosts.on("proxy", *argv), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        subprocess.run(hosts.on("proxy", *argv, "-s", "stop"), check=True, capture_output=True)


@contextlib.asynccontextmanager
async def proxied(pki: Any, directory: Path) -> AsyncIterator[Proxied]:
    routed = dict(re.findall(rf"(\S+\.{re.escape(DOMAIN)}) +([0-9.]+):", CONFIGURATION.read_text()))
    addresses = {name.removesuffix(f".{DOMAIN}").rpartition(".")[2]: address for name, address in routed.items()}
    with proxied_hosts(directory, addresses, list(routed)) as hosts, nginx(hosts, directory):
        swarm = Proxied(pki, directory, hosts)
        try:
            yield swarm
        finally:
            await swarm.stop()


@pytest.mark.timeout(300)
@pytest.mark.needs("nginx", "geth")
async def test_a_swarm_trains_through_one_port_of_a_proxy_that_has_no_key(pki: Any, tmp_path: Path) -> None:
    async with proxied(pki, tmp_path) as swarm:
        await swarm.node("license", "license", [f"license.{DOMAIN}"], "license-server")
        await swarm.sn("sn-1", "--sentinel")
        await swarm.sn("sn-2", "--sentinel-api-service", f"api.sn-1.{DOMAIN}")
        await asyncio.gather(swarm.sl("sl-1", "sn-1"), swarm.sl("sl-2", "sn-2"))
        assert len(set(await swarm.trains("sl-1", "sl-2"))) == 1
        assert swarm.answers("sl-1", f"license.{DOMAIN}").endswith("/license/license")
        assert swarm.answers("sl-1", f"p2p.sn-2.{DOMAIN}").endswith("/sn/sn-2")
        assert swarm.answers("sl-1", f"fs.sl-3.{DOMAIN}") == "hung up"
        assert swarm.answers("sl-1", "") == "hung up"
