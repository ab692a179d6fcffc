"""Two license servers with separate databases: one follows the other, takes over, and gives way again."""

import asyncio
import json
import os
import signal
from pathlib import Path

import aiohttp
import pytest
from license_servers import Servers, callers, license_servers

from services.licensing.expulsions import report
from services.licensing.lease import Lease
from services.licensing.servers import Servers as LicenseServers

SEATS = ("--seats", "SL=4")


async def pair(servers: Servers, *, second_too: bool = True) -> None:
    """The first grants seats, the second follows it."""
    await servers.start("ls-1", *SEATS, "--partner", f"ls-2@{servers.address('ls-2')}")
    if second_too:
        await start_second(servers)


async def start_second(servers: Servers) -> None:
    await servers.start("ls-2", "--standby", "--partner", f"ls-1@{servers.address('ls-1')}")


async def until_logged(servers: Servers, name: str, words: str) -> None:
    async with asyncio.timeout(60):
        while words not in servers.log(name):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await asyncio.Event().wait()


async def log_verifies(pki, address: str) -> int:
    """Verifies the audit log; returns its number of entries."""
    context = pki.identity("admin", "ada").client_context()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://{address}/api/v1/audit/verify", ssl=context) as response,
    ):
        verdict = await response.json()
    assert verdict["broken_at"] is None
    return int(verdict["entries"])


async def test_follower_lends_nothing_and_says_who_does(pki, tmp_path):
    async with license_servers(pki, tmp_path) as servers, callers(pki, range(1, 2)) as (node,):
        await pair(servers)
        await until_logged(servers, "ls-2", "following the active license server")
        assert await node.acquire(servers.address("ls-2")) == 503
        assert await node.acquire(servers.address("ls-1")) == 200


async def test_no_lease_is_lost_when_the_first_is_killed_and_it_follows_when_it_is_back(pki, tmp_path):
    async with license_servers(pki, tmp_path) as servers, callers(pki, range(1, 6)) as nodes:
        await pair(servers)
        await until_logged(servers, "ls-2", "following the active license server")
        first, second = servers.address("ls-1"), servers.address("ls-2")
        for node in nodes[:4]:
            assert await node.acquire(first) == 200
        held = [node.lease for node in nodes[:4]]
        await servers.kill("ls-1")
        for node in nodes[:4]:
            assert await node.until_answered(lambda node=node: node.renew(second)) == 200
        assert await nodes[4].acquire(second) == 409
        assert (await nodes[0].status(second))["in_use"] == 4
        assert await nodes[3].release(second) == 204
        assert await nodes[4].acquire(second) == 200

        await pair(servers, second_too=False)
        await until_logged(servers, "ls-1", "following the active license server")
        assert await nodes[4].renew(first) == 503
        assert await nodes[4].renew(second) == 200
        await log_verifies(pki, second)
        await servers.kill("ls-2")
        for node in [*nodes[:3], nodes[4]]:
            assert await node.until_answered(lambda node=node: node.renew(first)) == 200
        assert [node.lease for node in nodes[:3]] == held[:3]
        assert await log_verifies(pki, first) >= 4


async def test_node_of_a_pair_turns_to_the_one_that_took_over_by_itself(pki, tmp_path):
    async with license_servers(pki, tmp_path) as servers:
        await pair(servers)
        await until_logged(servers, "ls-2", "following the active license server")
        both = [servers.address("ls-1"), servers.address("ls-2")]
        async with await Lease.acquire(both, pki.identity("sl", "sl-1"), "SL", data_dir=tmp_path) as lease:
            await servers.kill("ls-1")
            await until_logged(servers, "ls-2", "is active now")
            assert lease.state in ("held", "grace")
            assert json.loads((Path(tmp_path) / "license.json").read_text())["feature"] == "SL"
        async with callers(pki, range(2, 3)) as (other,):
            assert (await other.status(both[1]))["holders"] == []


async def test_node_that_was_expelled_gets_no_seat_from_the_other_one_either(pki, tmp_path):
    async with license_servers(pki, tmp_path) as servers, callers(pki, range(1, 3)) as (expelled, other):
        await pair(servers)
        await until_logged(servers, "ls-2", "following the active license server")
        told = LicenseServers([servers.address("ls-1")], pki.identity("sn", "sn-1"))
        await report(told, "SN", [("sl", expelled.name)])
        await told.close()
        second = servers.address("ls-2")
        assert await expelled.until_answered(lambda: expelled.acquire(second)) == 403  # even while on standby
        await servers.kill("ls-1")
        assert await other.until_answered(lambda: other.acquire(second)) == 200
        assert await expelled.until_answered(lambda: expelled.acquire(second)) == 403


async def test_two_that_are_cut_off_each_lend_their_capacity_until_one_gives_way(pki, tmp_path):
    """To simulate this, the first is suspended until the second takes over; when it goes on, both are active."""
    async with license_servers(pki, tmp_path) as servers, callers(pki, range(1, 10)) as nodes:
        await pair(servers)
        await until_logged(servers, "ls-2", "following the active license server")
        first, second = servers.address("ls-1"), servers.address("ls-2")
        assert [await node.acquire(first) for node in nodes[:2]] == [200, 200]
        stopped = servers.pid("ls-1")
        os.kill(stopped, signal.SIGSTOP)
        await until_logged(servers, "ls-2", "is active now")
        lent = [await node.acquire(second) for node in nodes[2:6]]
        assert lent == [200, 200, 409, 409]
        os.kill(stopped, signal.SIGCONT)
        await until_logged(servers, "ls-1", "this one is on standby now")
        await until_logged(servers, "ls-1", "following the active license server")
        assert (await nodes[0].status(second))["in_use"] == 4
        assert await nodes[0].acquire(first) == 503
        assert await nodes[0].renew(second) == 200


async def test_what_a_follower_is_told_is_told_to_nobody_else(pki, tmp_path):
    async with license_servers(pki, tmp_path) as servers:
        await pair(servers, second_too=False)
        for role, name in (("sl", "sl-1"), ("admin", "ada"), ("license", "ls-3")):
            context = pki.identity(role, name).client_context()
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"https://{servers.address('ls-1')}/v1/partner?seen=-1&term=0", ssl=context) as response,
            ):
                assert response.status == 403
                assert "rows" not in await response.json()
