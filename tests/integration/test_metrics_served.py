"""Metrics of real nodes: off by default, unencrypted only on loopback, with mutual TLS elsewhere."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from sl_swarm import WITHIN_S, Swarm, running, swarm_of

from services.errors import PortInUse, SettingsError
from services.runtime.metrics import Meter, served
from services.sn.main import main as sn_main
from services.sn.settings import SNSettings

NAMES = ("sl-1", "sl-2")
EVERYWHERE = "0.0.0.0"  # noqa: S104


async def scrape(port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> dict[str, float]:
    """Samples by name and labels."""
    scheme = "http" if tls is None else "https"
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{scheme}://{host}:{port}/metrics", ssl=tls or True) as response,
    ):
        assert response.status == 200
        assert response.content_type == "text/plain"
        text = await response.text()
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def delivered(port: int, rounds: int) -> dict[str, float]:
    """Returns once an SL has counted this many rounds, a moment after its program has the merged model."""
    async with asyncio.timeout(WITHIN_S):
        while (found := await scrape(port)).get('swarm_sl_phase_seconds_count{phase="deliver"}', 0) < rounds:
            pass
    return found


@contextlib.asynccontextmanager
async def after_two_rounds(swarm: Swarm) -> AsyncIterator[None]:
    """Holds the programs once they have two merged models, then lets them end."""
    held = threading.Barrier(len(NAMES) + 1)

    def hold(number: int) -> None:
        if number == 1:
            held.wait(WITHIN_S)
            held.wait(WITHIN_S)

    programs = [
        swarm.ml(name, {"w": np.full(2000, i, np.float32)}, lambda it, _number: it, min_peers=2, between=hold)
        for i, name in enumerate(NAMES)
    ]
    training = asyncio.gather(*(program.run() for program in programs))
    await asyncio.to_thread(held.wait, WITHIN_S)
    yield
    await asyncio.to_thread(held.wait, WITHIN_S)
    await training


async def test_an_sl_measures_its_rounds_and_what_moves(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, *NAMES, metrics_port=0) as swarm:
        port = swarm.nodes["sl-1"].facts["metrics_port"]
        before = await scrape(port)
        assert before['swarm_lease_state{state="held"}'] == 1
        assert before['swarm_lease_state{state="lost"}'] == 0
        async with after_two_rounds(swarm):
            found = await delivered(port, 2)
    size = found['swarm_sl_bytes_total{direction="in",link="ml"}'] / 2
    assert size > 8000
    assert found['swarm_sl_bytes_total{direction="out",link="ml"}'] == 2 * size
    assert found['swarm_sl_bytes_total{direction="in",link="peers"}'] > 0
    assert found['swarm_sl_bytes_total{direction="out",link="peers"}'] > 0
    assert found['swarm_sl_rounds_accepted_total{contributed="yes"}'] == 2
    for phase in ("store", "check-in", "fetch", "deliver"):
        assert found[f'swarm_sl_phase_seconds_count{{phase="{phase}"}}'] == 2, phase
    led = found["swarm_sl_rounds_led_total"]
    assert led == 1  # they take turns
    assert found['swarm_sl_phase_seconds_count{phase="publish"}'] == led
    assert found['swarm_sl_phase_seconds_count{phase="merge"}'] == led
    assert found["swarm_sl_left_out_total"] == 0
    assert found["swarm_sl_peers_alive"] == 1


async def test_an_sn_measures_rounds_and_transactions(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path) as swarm, sn_of(swarm, metrics_port=0) as node:
        found = await scrape(node.facts["metrics_port"])
    registered = 3  # a training, a taskrunner, the tasks
    assert found['swarm_sn_transaction_seconds_count{function="registerContract"}'] == registered
    assert found['swarm_sn_transaction_seconds_sum{function="registerContract"}'] > 0
    assert found['swarm_sn_round{contract="defaultbb.cqdb.sml.hpe"}'] == 1
    assert found['swarm_lease_state{state="held"}'] == 1
    assert found["process_resident_memory_bytes"] > 0


@contextlib.asynccontextmanager
async def sn_of(swarm: Swarm, **changes: Any) -> AsyncIterator[Any]:
    """A separate SN beside the swarm's."""
    files = swarm.pki.issue("sn", "sn-9")
    given: dict[str, Any] = {
        "sentinel": True, "host": "127.0.0.1", "host_ip": "127.0.0.1", "sn_api_port": 0, "sn_p2p_port": 0,
        "apls_ip": "localhost", "apls_port": swarm.licenses_port, "chain": "embedded", "cert": files.cert,
        "key": files.key, "cacert": files.cacert, "data_dir": swarm.directory / "sn-9",
    }  # fmt: skip
    async with running(sn_main, SNSettings.load("sn", {**given, **changes})) as node:
        yield node


async def test_without_a_port_there_are_no_metrics(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1") as swarm:
        assert "metrics_port" not in swarm.nodes["sl-1"].facts


async def test_on_any_other_address_they_are_served_to_members_only(pki: Any, foreign_pki: Any) -> None:
    meter = Meter(on=True)
    meter.gauge("answer", "Of everything.").set(42)
    server = pki.identity("sn", "sn-1")
    async with served(meter, "sn", EVERYWHERE, 0, server.server_context) as facts:
        port = facts["metrics_port"]
        found = await scrape(port, "localhost", pki.identity("admin", "prometheus").client_context())
        assert found["answer"] == 42
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await scrape(port)  # unencrypted
        for stranger in (
            foreign_pki.identity("admin", "mallory").client_context(),
            ssl.create_default_context(cafile=pki.cacert),  # trusts the node, but has no certificate
        ):
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await scrape(port, "localhost", stranger)


async def test_a_port_that_cannot_be_had_is_named(pki: Any) -> None:
    tls = pki.identity("sn", "sn-1").server_context
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match="--metrics-port"):
            async with served(Meter(on=True), "sn", "127.0.0.1", port, tls):
                pass
    with pytest.raises(SettingsError, match="--metrics-host"):
        async with served(Meter(on=True), "sn", "192.0.2.1", 0, tls):
            pass
