"""Two processes with one name, each at a different SN: the SNs ask each other who holds the name."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sn_network import SNNetwork

from services.errors import NameInUse
from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, node_environment

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("geth")]

EXIT = NameInUse.exit_code


@pytest.fixture
async def network(pki: Any, tmp_path: Path) -> AsyncIterator[SNNetwork]:
    network = SNNetwork(pki, tmp_path)
    try:
        await network.license_server()
        await network.sentinel()
        await network.join("sn-2", "sn-1")
        await network.said("sn-1", "peers  in_touch=1 of 1")
        await network.said("sn-2", "peers  in_touch=1 of 1")
        yield network
    finally:
        await network.stop()


class Processes:
    """SLs with one certificate, each with its own directory."""

    def __init__(self, network: SNNetwork) -> None:
        self._network = network
        self._files = network.pki.issue("sl", "sl-1")
        self.started: list[Child] = []

    def start(self, place: str, sn: str) -> Child:
        network, files = self._network, self._files
        argv = (
            sys.executable, "-m", "services.cli", "sl", "--host", "127.0.0.1", "--host-ip", "localhost",
            "--sl-fs-port", "0", "--sn-ip", "127.0.0.1", "--sn-api-port", str(network.ports[sn]),
            "--apls-ip", "127.0.0.1", "--apls-port", str(network._license_port),
            "--data-dir", str(network.directory / place),
            "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert),
        )  # fmt: skip
        child = Child.start(Launch(place, argv, network.directory / f"{place}.log", node_environment(), cwd=CODE_ROOT))
        self.started.append(child)
        return child


@pytest.fixture
async def processes(network: SNNetwork) -> AsyncIterator[Processes]:
    processes = Processes(network)
    try:
        yield processes
    finally:
        for child in processes.started:
            await child.stop()


async def test_a_name_is_refused_at_another_sn_until_its_process_is_gone(
    network: SNNetwork, processes: Processes
) -> None:
    first = processes.start("first", "sn-1")
    port = (await first.ready())["port"]

    second = processes.start("second", "sn-2")
    assert await second.wait() == EXIT
    assert f"sl-1 is running already, at localhost:{port}." in second.tail()
    assert not first.exited.done()

    first.kill()
    third = processes.start("third", "sn-2")
    await third.ready()
    await network.parent("sn-1", "sl-1", "sn-2")
