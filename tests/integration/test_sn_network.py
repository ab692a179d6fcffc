"""Several SNs on real geth: they join, agree, survive each other's failure, and let no stranger in."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sn_network import WITHIN_S, SNNetwork
from sn_swarm import config, running_sn, scripted_sl

from services.chain.account import Account
from services.chain.geth_process import GethProcess
from services.chain.ipc import IpcConnection
from services.errors import NameTaken, ServesOneSN, SNUnreachable, WrongRole
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn.directory import DEFAULT_RUNNER
from services.sn.joining import join

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("geth")]

ON_LOOPBACK = "0100007F"
GO_ON_WITHIN_S = 6  # by then, nodes of a lost SN must have written through another one, even on a busy machine


@pytest.fixture
async def network(pki: Any, tmp_path: Path) -> AsyncIterator[SNNetwork]:
    started = SNNetwork(pki, tmp_path)
    try:
        yield started
    finally:
        await started.stop()


async def test_three_sns_agree_whichever_is_written_to(network: SNNetwork) -> None:
    await network.three()
    names = ["sn-1", "sn-2", "sn-3"]

    made = await asyncio.gather(*(network.create(name, f"by-{name}") for name in names))

    for name in names:
        for author, location in zip(names, made, strict=True):
            await network.shows(name, f"by-{author}", location)
        assert await network.sns(name) == {other: (network.ports[other], True) for other in names}
        await network.said(name, "peers  in_touch=2 of 2")
    assert "joined  through=sn-2" in network.log("sn-3")
    assert f"blocks fetched  of=127.0.0.1:{network.ports['sn-2']}" in network.log("sn-3")


async def test_the_others_go_on_without_the_sentinel_and_take_it_back(network: SNNetwork) -> None:
    await network.three()
    before = await network.create("sn-1", "before")
    await network.kill("sn-1")

    after = await network.create("sn-2", "after")
    await network.shows("sn-3", "after", after)
    await network.presence("sn-3", sn_1=False, sn_2=True, sn_3=True)
    voted = [network.said(name, "signers now  names=sn-2\n") for name in ("sn-2", "sn-3")]
    other = [network.said(name, "signers now  names=sn-3\n") for name in ("sn-2", "sn-3")]
    await _first(asyncio.gather(*voted), asyncio.gather(*other))
    alone = await network.create("sn-3", "alone")

    so_far = {name: len(network.log(name)) for name in ("sn-1", "sn-2", "sn-3")}
    await network.again("sn-1")
    await network.presence("sn-2", sn_1=True)
    for name, read in so_far.items():
        await network.said(name, "signers now  names=sn-1, sn-2, sn-3", since=read)
    for contract, location in (("before", before), ("after", after), ("alone", alone)):
        await network.shows("sn-1", contract, location)
    await network.shows("sn-3", "again", await network.create("sn-1", "again"))


async def test_an_sn_with_a_new_key_is_let_in_by_the_others_and_seals_again(network: SNNetwork) -> None:
    await network.three()
    before = await network.create("sn-1", "before")
    await network.shows("sn-3", "before", before)
    await network.kill("sn-2")
    await network.presence("sn-1", sn_2=False)
    network.rotate("sn-2")
    so_far = len(network.log("sn-3"))
    await network.again("sn-2")
    await network.presence("sn-3", sn_2=True)
    await network.said("sn-3", "signers now  names=sn-1, sn-2, sn-3", since=so_far)
    await network.shows("sn-1", "more", await network.create("sn-2", "more"))


async def test_an_sn_that_lost_its_data_joins_again_under_its_certificate(network: SNNetwork) -> None:
    await network.three()
    location = await network.create("sn-3", "kept")
    await network.kill("sn-3")
    network.erase("sn-3")
    so_far = len(network.log("sn-1"))

    await network.join("sn-3", "sn-1")

    assert "instead_of=0x" in network.log("sn-1")[so_far:]
    await network.shows("sn-3", "kept", location)
    await network.shows("sn-2", "new", await network.create("sn-3", "new"))
    await network.said("sn-3", "signers now  names=sn-1, sn-2, sn-3", since=network.log("sn-3").rfind("joined"))


@contextlib.asynccontextmanager
async def attending(network: SNNetwork, identity: Identity, sn: str) -> AsyncIterator[None]:
    """A SWOP, for as long as the context is open."""
    async with SNClient(f"localhost:{network.ports[sn]}", identity) as client:
        await client.network.Register(pb.RegisterRequest())
        stream = client.watch_runner(DEFAULT_RUNNER)
        await anext(stream)
        await client.runners.Attend(pb.AttendRequest(runner=DEFAULT_RUNNER, group="hospital", sl_peers=1))
        try:
            yield
        finally:
            await stream.aclose()


async def test_nodes_of_a_lost_sn_that_go_on_elsewhere_stay_and_the_others_are_given_up(
    network: SNNetwork, pki: Any
) -> None:
    network.lost_after_s = GO_ON_WITHIN_S
    await network.three()
    async with contextlib.AsyncExitStack() as stack:
        sls = [
            await stack.enter_async_context(scripted_sl(pki.identity("sl", name), network.ports[sn], watching=False))
            for name, sn in (("sl-1", "sn-1"), ("sl-2", "sn-3"), ("sl-3", "sn-3"))
        ]
        for sl in sls:
            await sl.enrol(config(min_peers=1))
            sl.watch()
        staying = sls[0]
        await staying.until(lambda status: len(status.participants) == 3)
        for name in ("swop-1", "swop-2"):
            await stack.enter_async_context(attending(network, pki.identity("swop", name), "sn-3"))

        await network.kill("sn-3")
        await asyncio.gather(
            stack.enter_async_context(attending(network, pki.identity("swop", "swop-2"), "sn-2")),
            stack.enter_async_context(scripted_sl(pki.identity("sl", "sl-2"), network.ports["sn-2"])),
        )

        gone = await staying.until(lambda status: any(not who.active for who in status.participants))
        assert {who.name: who.left_reason for who in gone.participants} == {"sl-1": "", "sl-2": "", "sl-3": "lost"}
        async with network.client("sn-1") as client:
            async with asyncio.timeout(WITHIN_S):
                async for status in client.watch_runner(DEFAULT_RUNNER):
                    if not all(agent.attends for agent in status.agents):
                        break
        await network.parent("sn-1", "sl-2", "sn-2")
        assert {agent.name: agent.attends for agent in status.agents} == {"swop-1": False, "swop-2": True}


async def test_an_sn_that_is_earlier_than_its_sentinel_says_so_and_joins(network: SNNetwork) -> None:
    await network.license_server()
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    early = network.refused("sn-2", "--sentinel-ip", f"127.0.0.1:{port}")
    network.ports["sn-2"] = 0
    stopped = network.refused("sn-3", "--sentinel-ip", f"127.0.0.1:{port}")
    network.ports["sn-3"] = 0
    for name in ("sn-2", "sn-3"):
        await network.said(name, f"the SN at 127.0.0.1:{port} cannot be reached yet (the connection was refused")
        await network.said(name, "; giving up in ")
    assert not await stopped.stop()
    assert await stopped.wait() == 0
    network.running["sn-1"] = network.refused("sn-1", "--sentinel", "--sn-api-port", str(port))
    await network.running["sn-1"].ready()
    await early.ready()
    await network.said("sn-2", "joined  through=sn-1")


async def test_an_sn_gives_up_on_a_sentinel_that_never_comes(pki: Any, tmp_path: Path) -> None:
    with pytest.raises(SNUnreachable, match="the connection was refused"):
        await join(pki.identity("sn", "sn-2"), "127.0.0.1:1", tmp_path, patience_s=0.1)


async def test_an_sn_that_waits_for_the_others_blocks_stops_when_told(network: SNNetwork) -> None:
    await network.license_server()
    await network.sentinel()
    joining = network.refused("sn-2", "--sentinel-ip", f"127.0.0.1:{network.ports['sn-1']}")
    network.ports["sn-2"] = 0  # so that its log is shown if it does not join
    await network.said("sn-2", "joined  through=sn-1")
    await network.kill("sn-1")
    await network.said("sn-2", "chain  kind=geth")
    assert not await joining.stop(), f"it had to be killed:\n{joining.tail()}"
    assert await joining.wait() == 0, joining.tail()


async def test_everything_is_found_again_after_all_were_killed(network: SNNetwork) -> None:
    await network.three()
    location = await network.create("sn-2", "kept")
    for name in ("sn-1", "sn-2", "sn-3"):
        await network.shows(name, "kept", location)
    for name in ("sn-1", "sn-2", "sn-3"):
        await network.kill(name)

    await network.again("sn-1")  # all ports are new: the others are found through the SN named in the command
    for name in ("sn-2", "sn-3"):
        await network.join(name, "sn-1")

    for name in ("sn-1", "sn-2", "sn-3"):
        await network.shows(name, "kept", location)
    await network.shows("sn-1", "more", await network.create("sn-3", "more"))


async def _first(*waits: "asyncio.Future[Any]") -> None:
    """Waits for one of these; cancels the others."""
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for wait in done:
        wait.result()


# --- who is not let in ---------------------------------------------------------------------------------------


def listening(process: int) -> set[tuple[str, int]]:
    """Address and port of all TCP sockets on which a process listens. Addresses are in hexadecimal, as in the kernel's
    tables.
    """
    held = {str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir() if link.is_symlink()}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]
    ]
    places = [row[1].split(":") for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held]
    return {(address, int(port, 16)) for address, port in places}


async def test_geth_listens_on_loopback_alone_and_hears_the_other_one(network: SNNetwork) -> None:
    await network.license_server()
    await network.sentinel()
    await network.join("sn-2", "sn-1")
    for name in ("sn-1", "sn-2"):
        of_geth = listening(int((network.directory / name / "eth" / "geth.pid").read_text()))
        assert {address for address, _ in of_geth} == {ON_LOOPBACK}
        ipc = await IpcConnection.open(network.directory / name / "eth" / "geth.ipc", lambda _: None)
        try:

            async def meets(geth: IpcConnection = ipc) -> bool:
                return await geth.request("net_peerCount") == "0x1"

            await network.until(meets, f"the geth of {name} does not meet the other one")
        finally:
            await ipc.close()
    await _nobody_else_takes_the_way_of_geth(network, "sn-1")
    await network.shows("sn-1", "after", await network.create("sn-2", "after"))


async def _nobody_else_takes_the_way_of_geth(network: SNNetwork, name: str) -> None:
    """From an SN's host to another SN's geth: this process tries all ports that the SN has open on loopback."""
    open_to_all = {network.ports[name], port_of_relay(network.log(name))}
    ways = {port for address, port in listening(network.running[name].pid) if address == ON_LOOPBACK} - open_to_all
    assert ways
    for port in ways:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            writer.write(bytes(307))  # the least length of the first message in geth's peer protocol
            async with asyncio.timeout(WITHIN_S):
                assert await reader.read() == b""
        writer.close()
    assert any(f"refused a local connection from another process  port={port}" in network.log(name) for port in ways)


def port_of_relay(log: str) -> int:
    """The port where other SNs reach geth."""
    return int(re.findall(r"listening for other SNs' geth +port=(\d+)", log)[-1])


async def test_a_stranger_gets_no_block_and_no_transaction_in(network: SNNetwork, tmp_path: Path) -> None:
    await network.license_server()
    await network.sentinel()
    await network.join("sn-2", "sn-1")
    genesis = json.loads((network.directory / "sn-1" / "eth" / "genesis.json").read_text())
    account = Account.load_or_create(tmp_path / "stranger" / "account.key")
    geth = GethProcess(tmp_path / "stranger", account, genesis=genesis)
    await geth.start()
    member = await IpcConnection.open(network.directory / "sn-1" / "eth" / "geth.ipc", lambda _: None)
    stranger = await IpcConnection.open(geth.ipc_path, lambda _: None)
    try:
        enode = (await member.request("admin_nodeInfo"))["enode"]
        sealer = json.loads((network.directory / "sn-1" / "eth" / "keystore" / "sealer.json").read_text())["address"]
        await stranger.request("admin_addTrustedPeer", enode)
        await stranger.request("admin_addPeer", enode)
        theft = account.sign(0, geth.chain_id, "0x" + sealer, b"")
        for number in range(5):  # blocks that a peer would get
            await network.create("sn-2", f"contract-{number}")
        assert await stranger.request("eth_blockNumber") == "0x0"
        assert await stranger.request("net_peerCount") == "0x0"

        # Even as a peer it cannot add a transaction. It now gets blocks, which shows that the test can fail.
        heads: asyncio.Queue[Any] = asyncio.Queue()
        listening = await IpcConnection.open(geth.ipc_path, heads.put_nowait)
        await listening.request("eth_subscribe", "newHeads")
        await member.request("admin_addTrustedPeer", (await stranger.request("admin_nodeInfo"))["enode"])
        await member.request("admin_addPeer", (await stranger.request("admin_nodeInfo"))["enode"])
        await network.create("sn-2", "seen")
        async with asyncio.timeout(WITHIN_S):
            while int((await heads.get())["number"], 16) < 1:
                pass
        with pytest.raises(Exception, match="insufficient funds"):
            await stranger.request("eth_sendRawTransaction", "0x" + theft.raw.hex())
        await listening.close()
    finally:
        await member.close()
        await stranger.close()
        await geth.stop()


async def test_joining_with_the_certificate_of_an_sl_is_refused_in_words(network: SNNetwork) -> None:
    await network.license_server()
    await network.sentinel()
    async with network.client("sn-1", "sl", "sl-1") as client:
        with pytest.raises(WrongRole, match="sl-1 has the role sl, but Join needs sn"):
            await client.peering.Join(pb.JoinRequest(account="0x" + "ab" * 20))


async def test_joining_under_the_name_of_another_sn_is_refused_in_words(network: SNNetwork) -> None:
    await network.license_server()
    await network.sentinel()
    async with network.client("sn-1", "sn", "sn-1") as client:  # another certificate for the same name
        with pytest.raises(NameTaken, match="sn-1"):
            await client.peering.Join(pb.JoinRequest(account="0x" + "ab" * 20))


async def test_an_sn_on_the_embedded_chain_lets_nobody_join_and_says_why(
    network: SNNetwork, pki: Any, tmp_path: Path
) -> None:
    async with running_sn(pki.identity("sn", "sn-e"), tmp_path / "sn-e") as sn:
        async with SNClient(f"localhost:{sn.port}", pki.identity("sn", "sn-2")) as client:
            with pytest.raises(ServesOneSN, match="sn-e runs the embedded chain, which serves one SN only"):
                await client.peering.Join(pb.JoinRequest(account="0x" + "ab" * 20))
        await network.license_server()
        refused = network.refused("sn-2", "--sentinel-ip", f"127.0.0.1:{sn.port}")
        assert await refused.wait() == ServesOneSN.exit_code
    assert "ERROR: sn-e runs the embedded chain" in refused.tail(1)


async def test_two_sentinels_of_one_license_server_are_told_of_each_other(network: SNNetwork) -> None:
    await network.license_server()
    await network.sentinel("sn-1")
    await network.sentinel("sn-2")
    there = f"127.0.0.1:{network.ports['sn-1']}"
    await network.said("sn-2", f"another swarm leases from the same license server, with sn-1 at {there}. If the two")
    await network.said("ls", "another swarm uses this license server")
    await network.kill("sn-2")
    await network.join("sn-2", "sn-1")  # from the data of its own swarm
    await network.said("sn-2", "sn-1 belongs to another swarm: its chain is")


async def test_an_sn_that_is_told_neither_or_both_ways_says_so(network: SNNetwork) -> None:
    neither = network.refused("sn-1")
    assert await neither.wait() == 2
    assert "give --sentinel for the first SN of a swarm, --sentinel-ip HOST[:PORT] to join one" in neither.tail(1)
    both = network.refused("sn-2", "--sentinel", "--sentinel-ip", "127.0.0.1")
    assert await both.wait() == 2
    assert "--sentinel makes a new swarm, --sentinel-ip joins one" in both.tail(1)
