"""A whole training whose license server dies in the middle and comes back, and one whose node loses its seat."""

import asyncio
import threading
from typing import Any

import aiohttp
import numpy as np
import pytest
from license_servers import Servers, license_servers
from sl_swarm import WITHIN_S, Arrays, Swarm, swarm_of

from services.errors import LicenseRevoked
from swarm_callback.errors import SwarmCallbackError

ROUNDS = 8


class Gated:
    """Trains round by round, as far as the test allows."""

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._let = 0

    def let(self, rounds: int) -> None:
        with self._moved:
            self._let = rounds
            self._moved.notify_all()

    def __call__(self, arrays: Arrays, number: int) -> Arrays:
        with self._moved:
            assert self._moved.wait_for(lambda: number < self._let, timeout=WITHIN_S)
        return {"w": arrays["w"] + np.float32(1)}


async def start(servers: Servers, pki: Any, *flags: str) -> None:
    """Starts a server with a lease time of three seconds, so that nodes renew every second."""
    await servers.start("ls-1", *flags)
    async with (
        aiohttp.ClientSession() as session,
        session.patch(
            f"https://{servers.address('ls-1')}/api/v1/settings",
            json={"lease_s": 3},
            ssl=pki.identity("admin", "ada").client_context(),
        ) as response,
    ):
        assert response.status == 200


async def until_said(read: Any, words: str, times: int) -> str:
    said = ""
    async with asyncio.timeout(WITHIN_S):
        while said.count(words) < times:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await asyncio.Event().wait()
            said += read()
    return said


def model() -> Arrays:
    return {"w": np.zeros((3, 4), np.float32)}


async def round_accepted(swarm: Swarm, number: int) -> None:
    await swarm.until(lambda view: view.last_result is not None and view.last_result.round >= number)


async def test_training_goes_on_while_the_license_server_is_dead_and_only_the_log_tells(pki, tmp_path, capsys):
    async with license_servers(pki, tmp_path) as servers, swarm_of(pki, tmp_path) as swarm:
        await start(servers, pki)
        for name in ("sl-1", "sl-2"):
            await swarm.sl(name, apls_port=servers.port("ls-1"))
        gate = Gated()
        runs = [
            asyncio.create_task(swarm.ml(name, model(), gate, rounds=ROUNDS, min_peers=2).run())
            for name in ("sl-1", "sl-2")
        ]
        gate.let(2)
        await round_accepted(swarm, 2)
        await servers.kill("ls-1")
        await until_said(lambda: capsys.readouterr().out, "license server lost, continuing", 2)
        gate.let(5)
        await round_accepted(swarm, 5)
        await servers.start("ls-1")
        said = await until_said(lambda: capsys.readouterr().out, "license server is back", 2)
        assert "for_at_most_s" not in said.partition("license server is back")[2]
        gate.let(ROUNDS + 1)
        digests = await asyncio.gather(*runs)
        assert digests[0] == digests[1] == swarm.view.last_result.digest.hex()
        assert len(swarm.view.last_result.merged) == 2
        assert swarm.view.last_result.round >= ROUNDS


async def test_revoked_node_ends_after_its_round_with_the_reason(pki, tmp_path):
    async with license_servers(pki, tmp_path) as servers, swarm_of(pki, tmp_path, "sl-1") as swarm:
        await start(servers, pki)
        node = await swarm.sl("sl-2", apls_port=servers.port("ls-1"))
        gate = Gated()
        runs = [
            asyncio.create_task(swarm.ml(name, model(), gate, rounds=ROUNDS, min_peers=1).run())
            for name in ("sl-1", "sl-2")
        ]
        gate.let(2)
        await round_accepted(swarm, 2)
        admin = pki.identity("admin", "ada").client_context()
        base = f"https://{servers.address('ls-1')}/api/v1/leases"
        async with aiohttp.ClientSession() as session:
            async with session.get(base, ssl=admin) as response:
                (lease,) = await response.json()
            revoke = session.post(f"{base}/{lease['id']}/revoke", json={"reason": "wanted elsewhere"}, ssl=admin)
            async with revoke as response:
                assert response.status == 200
        with pytest.raises(TimeoutError):  # it learns of this within 1.2 s, in the middle of its round
            async with asyncio.timeout(3):
                await asyncio.wait_for(asyncio.shield(node.task), 3)
        gate.let(3)
        error = await node.ended()
        assert isinstance(error, LicenseRevoked)
        assert "wanted elsewhere" in str(error)
        assert swarm.view.last_result.round >= 3
        assert "sl-2" in swarm.view.last_result.merged
        gate.let(ROUNDS + 1)
        with pytest.raises(SwarmCallbackError, match="wanted elsewhere"):
            await runs[1]
        await runs[0]
