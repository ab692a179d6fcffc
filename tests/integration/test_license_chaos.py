"""A license server that is killed again and again while nodes ask and an administrator acts."""

import asyncio
import contextlib
import random
import sqlite3
from pathlib import Path

import aiohttp
import pytest
from license_servers import Caller, Servers, callers, license_servers

from services.license_server.database import DATABASE
from tests.pacing import pause

KILLS = 50
CAPACITY, NODES = 6, 10
UNDER_LOAD_S = 0.3  # how long a server grants seats before it is killed
UNANSWERED = (aiohttp.ClientError, OSError)


class Load:
    """Nodes that take, renew and give back seats, and remember the answers."""

    def __init__(self, address: str, seed: int) -> None:
        self._address = address
        self._random = random.Random(seed)
        self.answers = self.refused = self.changes = 0
        self.lost: list[str] = []

    async def node(self, caller: Caller) -> None:
        """A granted seat that was not given back must still exist at each renewal, whatever happened meanwhile."""
        while True:
            status = await self._ask(lambda: caller.acquire(self._address))
            if status == 409:
                self.refused += 1
                await pause(0.05)
                continue
            assert status == 200
            for _ in range(self._random.randint(1, 8)):
                if (status := await self._ask(lambda: caller.renew(self._address))) != 200:
                    self.lost.append(f"{caller.name}: {status} for {caller.lease}")
            assert await self._ask(lambda: caller.release(self._address)) == 204

    async def administrator(self, context) -> None:
        """Changes a setting back and forth, to add entries to the audit log."""
        hours = 1
        while True:
            hours = 3 - hours
            with contextlib.suppress(*UNANSWERED):
                async with (
                    aiohttp.ClientSession() as session,
                    session.patch(
                        f"https://{self._address}/api/v1/settings", json={"session_max_h": hours}, ssl=context
                    ) as response,
                ):
                    assert response.status == 200
                    self.changes += 1
            await pause(0.1)

    async def _ask(self, what) -> int:
        while True:
            with contextlib.suppress(*UNANSWERED):
                status = await what()
                self.answers += 1
                return status
            await pause(0.02)


def seats_taken(directory: Path) -> int:
    with contextlib.closing(sqlite3.connect(directory / DATABASE)) as connection:
        return int(connection.execute("SELECT count(*) FROM leases").fetchone()[0])


def most_at_once(directory: Path) -> int:
    """The most seats held at the same time, according to the history."""
    with contextlib.closing(sqlite3.connect(directory / DATABASE)) as connection:
        rows = connection.execute("SELECT id, taken_at, ended_at FROM checkouts ORDER BY id").fetchall()
        order = connection.execute("SELECT count(*) FROM checkouts WHERE ended_at IS NULL").fetchone()[0]
    changes = sorted([(end, -1) for _, _, end in rows if end is not None] + [(begin, 1) for _, begin, _ in rows])
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    assert held == order
    return most


@pytest.mark.timeout(900)
async def test_server_killed_fifty_times_under_load_keeps_capacity_leases_and_log(pki, tmp_path):
    async with license_servers(pki, tmp_path) as servers, callers(pki, range(1, NODES + 1)) as nodes:
        await servers.start("ls-1", "--seats", f"SL={CAPACITY}")
        load = Load(servers.address("ls-1"), seed=5)
        admin = pki.identity("admin", "ada").client_context()
        tasks = [asyncio.create_task(load.node(node)) for node in nodes]
        tasks.append(asyncio.create_task(load.administrator(admin)))
        for number in range(KILLS):
            answers, changes = load.answers, load.changes + (number % 5 == 0)
            async with asyncio.timeout(60):
                while load.answers < answers + NODES or load.changes < changes:  # it did work before it is killed
                    await pause(0.01)
            await pause(UNDER_LOAD_S * load._random.random())
            await servers.kill("ls-1")
            assert seats_taken(tmp_path / "ls-1") <= CAPACITY
            assert not any(task.done() for task in tasks), f"after {number} kills"
            await servers.start("ls-1")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert load.lost == []
        assert load.refused > 0  # it was full, so the limit was tested
        assert most_at_once(tmp_path / "ls-1") == CAPACITY
        await audit_verifies(servers, admin)


async def audit_verifies(servers: Servers, admin) -> None:
    url = f"https://{servers.address('ls-1')}/api/v1/audit/verify"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=admin) as response:
        verdict = await response.json()
    assert verdict["broken_at"] is None
    assert verdict["entries"] >= KILLS // 5
