"""The SN as users start it: a process, with a license server beside it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sn_swarm import WITHIN_S, config, play_round, scripted_sl

from services.errors import SNUnreachable
from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, node_environment
from services.rpc import swarm_pb2 as pb


class Nodes:
    """Starts nodes in a directory, each with its own log; those left are stopped at the end."""

    def __init__(self, pki: Any, directory: Path) -> None:
        self.pki = pki
        self.directory = directory
        self.license_port = 1  # nothing listens there
        self._children: list[Child] = []

    def start(self, role: str, name: str, *arguments: str, **environment: str) -> Child:
        files = self.pki.issue(role, name)
        identity = ["--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert)]
        return self._start(name, [*arguments, *identity], environment)

    async def license_server(self) -> None:
        directory = str(self.directory / "license")
        child = self.start(
            "license", "ls", "license-server", "--data-dir", directory, "--host", "127.0.0.1", "--port", "0"
        )
        self.license_port = (await child.ready())["port"]

    def sn(self, *more: str, role: str = "sn", chain: str = "embedded", **environment: str) -> Child:
        """Starts an SN with one certificate; restarts keep its key and name."""
        files = getattr(self, f"_{role}_files", None) or self.pki.issue(role, f"{role}-1")
        setattr(self, f"_{role}_files", files)
        arguments = [
            "sn", "--sentinel", "--host", "127.0.0.1", "--host-ip", "127.0.0.1", "--sn-api-port", "0",
            "--sn-p2p-port", "0", "--apls-ip", "127.0.0.1", "--apls-port", str(self.license_port), "--chain", chain,
            "--data-dir", str(self.directory / "sn"), "--cert", str(files.cert), "--key", str(files.key),
            "--cacert", str(files.cacert), *more,
        ]  # fmt: skip
        return self._start("sn-1", [argument for argument in arguments if argument], environment)

    async def stop(self) -> None:
        for child in reversed(self._children):
            assert not await child.stop(), f"{child.name} had to be killed:\n{child.tail()}"

    def _start(self, name: str, arguments: list[str], environment: dict[str, str]) -> Child:
        argv = (sys.executable, "-m", "services.cli", *arguments)
        log = self.directory / f"{name}.log"
        child = Child.start(Launch(name, argv, log, node_environment(**environment), cwd=CODE_ROOT))
        self._children.append(child)
        return child


@pytest.fixture
async def nodes(pki: Any, tmp_path: Path) -> AsyncIterator[Nodes]:
    started = Nodes(pki, tmp_path)
    try:
        yield started
    finally:
        await started.stop()


async def last_line_of(child: Child, exit_code: int) -> str:
    """The one sentence of a node that refuses to start."""
    assert await child.wait() == exit_code, child.tail()
    line = child.tail(1).strip()
    assert line.startswith("ERROR: ") and "Traceback" not in child.log.read_text()
    return line


async def test_an_sn_starts_step_by_step_and_stops_in_order(nodes: Nodes) -> None:
    await nodes.license_server()
    sn = nodes.sn()
    facts = await sn.ready()
    assert facts["chain"] == "embedded"
    assert not await sn.stop()
    assert await sn.wait() == 0
    log = sn.log.read_text()
    steps = [
        "identity", "license acquired", "chain", "SwarmNetwork deployed", "training contract created",
        f"Starting SWARM-API-SERVER on port: {facts['port']}", "stopping", "license returned",
    ]  # fmt: skip
    places = [log.find(step) for step in steps]
    assert -1 not in places and places == sorted(places), log


@pytest.mark.parametrize("chain", ["embedded", "geth"])
async def test_an_sn_that_is_killed_goes_on_where_it_was(nodes: Nodes, pki: Any, chain: str) -> None:
    await nodes.license_server()
    names = ["sl-1", "sl-2"]
    first = nodes.sn(chain=chain)
    port = (await first.ready())["port"]
    async with contextlib.AsyncExitStack() as stack:
        sls = [
            await stack.enter_async_context(scripted_sl(pki.identity("sl", name), port, watching=False))
            for name in names
        ]
        for sl in sls:
            await sl.enrol(config())
        for sl in sls:
            sl.watch()
        digest = await play_round(sls, 1)
        await sls[0].check_in(2)
        first.kill()
        await first.wait()
    port = (await nodes.sn(chain=chain).ready())["port"]
    async with contextlib.AsyncExitStack() as stack:
        sls = [await stack.enter_async_context(scripted_sl(pki.identity("sl", name), port)) for name in names]
        status = await sls[0].status()
        assert (status.round, status.last_result.digest) == (2, digest)
        assert [entry.name for entry in status.check_ins] == ["sl-1"]
        await sls[1].check_in(2)
        await sls[0].until(lambda status: status.state == pb.MERGE)


async def test_a_port_in_use_is_said_before_anything_is_made(nodes: Nodes) -> None:
    await nodes.license_server()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sn = nodes.sn("--sn-api-port", str(port))
        assert f"Port {port} on 127.0.0.1 is in use" in await last_line_of(sn, 12)
    assert [path.name for path in (nodes.directory / "sn").iterdir()] == ["lock"]


async def test_a_data_directory_that_cannot_be_written_is_named(nodes: Nodes) -> None:
    obstacle = nodes.directory / "file"
    obstacle.touch()
    sn = nodes.sn("--data-dir", str(obstacle / "sn"))
    assert f"{obstacle / 'sn'} cannot be written: not a directory" in await last_line_of(sn, 17)


async def test_an_sn_without_a_license_server_does_not_start(nodes: Nodes) -> None:
    assert "The license server 127.0.0.1:1 cannot be reached" in await last_line_of(nodes.sn(), 11)


async def test_an_sn_without_a_seat_does_not_start(nodes: Nodes) -> None:
    nodes_seats = "SN=0"
    child = nodes.start(
        "license", "ls", "license-server", "--data-dir", str(nodes.directory / "license"), "--host", "127.0.0.1",
        "--port", "0", SWARM_LICENSE_SEATS=nodes_seats,
    )  # fmt: skip
    nodes.license_port = (await child.ready())["port"]
    assert "All 0 seats for SN are in use" in await last_line_of(nodes.sn(), 11)


async def test_the_certificate_of_an_sl_does_not_make_an_sn(nodes: Nodes) -> None:
    assert "sl-1 has the role sl" in await last_line_of(nodes.sn(role="sl"), 10)


async def test_another_chain_than_the_one_of_the_data_directory_is_refused(nodes: Nodes) -> None:
    await nodes.license_server()
    first = nodes.sn()
    await first.ready()
    await first.stop()
    line = await last_line_of(nodes.sn(chain="geth"), 2)
    assert "holds a swarm whose chain is embedded" in line


async def test_a_frozen_sn_is_noticed_by_whoever_watches(nodes: Nodes, pki: Any) -> None:
    await nodes.license_server()
    sn = nodes.sn()
    port = (await sn.ready())["port"]
    async with scripted_sl(pki.identity("sl", "sl-1"), port, watching=False) as sl:
        stream = sl.client.watch(sl.contract)
        await anext(stream)
        os.kill(sn.pid, signal.SIGSTOP)
        with pytest.raises(SNUnreachable, match="did not answer"):
            async with asyncio.timeout(WITHIN_S):
                await anext(stream)
    sn.kill()
