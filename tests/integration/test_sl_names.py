"""The names of SLs: several with one certificate take part in slots of it; a second process of the same name is
refused.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import Arrays, add, same, swarm_of
from sn_swarm import running_sn

from services import errors
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn.directory import DEFAULT_TRAINING
from services.sn.node import RunningSN
from swarm_callback.errors import Refused

WITHIN_S = 30.0
SLOTS = ["sl-1/0", "sl-1/1", "sl-1/2"]


def model(seed: int, elements: int = 12) -> Arrays:
    return {"w": np.random.default_rng(seed).standard_normal(elements).astype(np.float32)}


@pytest.mark.parametrize("elements", [12, 1_500_000], ids=["by the leader alone", "shared"])
async def test_nodes_with_one_certificate_take_part_in_its_slots(pki: Any, tmp_path: Path, elements: int) -> None:
    names = [*SLOTS, "sl-2"]
    async with swarm_of(pki, tmp_path, *names) as swarm:
        programs = [swarm.ml(name, model(i, elements), add(i), min_peers=4) for i, name in enumerate(names)]
        digests = await asyncio.gather(*(program.run() for program in programs))
        for name in names:
            assert await swarm.nodes[name].ended() is None
        assert len(set(digests)) == 1
        assert all(answer.contributed for program in programs for answer in program.answers)
        participants = swarm.view.participants
        assert sorted(participants) == names
        assert len({who.fingerprint for who in participants.values()}) == 2


async def test_each_slot_holds_a_seat_and_is_listed(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, *SLOTS, "sl-1", seats="SL=4") as swarm:
        async with SNClient(f"localhost:{swarm.sn_port}", pki.identity("admin", "op")) as client:
            nodes = (await client.network.ListNodes(pb.ListNodesRequest())).nodes
        assert sorted(node.name for node in nodes if node.role == "sl" and node.present) == ["sl-1", *SLOTS]
        with pytest.raises(errors.NoSeatLeft) as refused:
            await swarm.sl("sl-2")
        assert refused.value.facts["holders"] == ", ".join(["sl-1", *SLOTS])


async def test_a_second_process_of_one_name_is_refused_and_the_first_one_does_not_notice(
    pki: Any, tmp_path: Path
) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        refused = threading.Event()
        programs = [
            swarm.ml(name, model(i), same, min_peers=2, between=lambda number: number == 0 or refused.wait(WITHIN_S))
            for i, name in enumerate(("sl-1", "sl-2"))
        ]
        running = [asyncio.create_task(program.run()) for program in programs]
        await swarm.until(lambda view: view.last_result is not None)
        with pytest.raises(errors.NameInUse) as error:
            await swarm.sl("sl-1", data_dir=tmp_path / "twin")
        assert f"sl-1 is running already, at localhost:{swarm.nodes['sl-1'].facts['port']}." in str(error.value)
        refused.set()
        assert len(set(await asyncio.gather(*running))) == 1
        assert await swarm.nodes["sl-1"].ended() is None
        assert all(answer.contributed for program in programs for answer in program.answers)
        assert all(type(event).__name__ != "LeaderDeposed" for event in await swarm.events())


async def test_a_node_that_loses_its_name_while_it_was_frozen_ends_and_tells_its_program(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with swarm_of(pki, tmp_path, "sl-1") as swarm:
        program = asyncio.create_task(swarm.ml("sl-1", model(1), same, min_peers=2).run())
        await swarm.until(lambda view: "sl-1" in view.check_ins)
        first = swarm.nodes["sl-1"]
        monkeypatch.setattr("services.sn.names.ANSWER_S", 0.0)  # any answer comes too late
        await swarm.sl("sl-1", data_dir=tmp_path / "another")
        assert isinstance(await first.ended(), errors.NameInUse)
        with pytest.raises(Refused, match="sl-1 is running already, at localhost:"):
            await program


@pytest.mark.parametrize("slot", ["a/b", "..", "x" * 33, "ö", " "])
async def test_a_slot_that_cannot_be_one_is_refused_in_words(pki: Any, tmp_path: Path, slot: str) -> None:
    async with swarm_of(pki, tmp_path) as swarm:
        with pytest.raises(errors.SettingsError, match="is not a slot"):
            swarm.settings("sl-1", slot=slot)


# --- what the SN answers ----------------------------------------------------------------------------------------


@pytest.fixture
async def sn(pki: Any, tmp_path: Path) -> AsyncIterator[RunningSN]:
    async with running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn") as running:
        yield running


def process_of(identity: Identity, slot: str = "") -> Identity:
    """The same node, as another process."""
    name = f"{identity.name}/{slot}" if slot else identity.name
    return replace(identity, name=name, slot=slot, process=os.urandom(16))


def client_of(sn: RunningSN, identity: Identity) -> SNClient:
    return SNClient(f"localhost:{sn.port}", identity)


async def held(client: SNClient, port: int = 30305) -> AsyncGenerator[None]:
    """Holds the name as long as the stream is referenced."""
    stream = client.hold_name("site-a", port)
    await anext(stream)
    return stream


async def answering(stream: AsyncGenerator[None]) -> None:
    async for _ in stream:
        pass


@pytest.fixture
async def two(pki: Any, sn: RunningSN) -> AsyncIterator[tuple[SNClient, SNClient]]:
    """Two processes with the same name."""
    identity = pki.identity("sl", "sl-1")
    async with client_of(sn, process_of(identity)) as one, client_of(sn, process_of(identity)) as other:
        yield one, other


async def test_a_process_that_answers_keeps_its_name(two: tuple[SNClient, SNClient]) -> None:
    first = asyncio.create_task(answering(await held(two[0])))
    with pytest.raises(errors.NameInUse) as refused:
        await held(two[1])
    assert refused.value.facts == {"name": "sl-1", "address": "site-a:30305"}
    assert not first.done()
    first.cancel()


async def test_the_same_process_may_come_again_before_its_old_stream_has_ended(two: tuple[SNClient, SNClient]) -> None:
    old = await held(two[0])
    new = await held(two[0])
    await answering(old)  # ends
    await new.aclose()


async def test_a_name_is_free_the_moment_its_process_is_gone(pki: Any, sn: RunningSN) -> None:
    for _ in range(10):
        async with client_of(sn, process_of(pki.identity("sl", "sl-1"))) as client:
            stream = await held(client)
        await stream.aclose()


async def test_a_process_that_does_not_answer_loses_its_name_and_may_write_nothing_more(
    two: tuple[SNClient, SNClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.sn.names.ANSWER_S", 0.2)
    frozen = await held(two[0])
    await two[0].network.Register(pb.RegisterRequest(host="site-a", port=30305))
    now = await held(two[1], port=30306)
    for write in (
        two[0].network.Register(pb.RegisterRequest(host="site-a", port=30305)),
        two[0].network.Deregister(pb.DeregisterRequest()),
        two[0].training.Leave(pb.LeaveRequest(contract=DEFAULT_TRAINING)),
        held(two[0]),
    ):
        with pytest.raises(errors.NameInUse, match="at site-a:30306"):
            await write
    with pytest.raises((errors.NameInUse, errors.SNUnreachable)):  # its answer may meet the end of the stream
        await answering(frozen)
    await two[1].network.Register(pb.RegisterRequest(host="site-a", port=30306))
    await now.aclose()


async def test_a_process_that_lost_its_name_may_have_it_again_when_the_other_is_gone(
    two: tuple[SNClient, SNClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.sn.names.ANSWER_S", 0.2)
    frozen, now = await held(two[0]), await held(two[1])
    await frozen.aclose()
    await now.aclose()
    await (await held(two[0])).aclose()


async def test_slots_are_names_of_their_own(pki: Any, sn: RunningSN) -> None:
    identity = pki.identity("sl", "sl-1")
    async with client_of(sn, identity) as plain, client_of(sn, process_of(identity, "0")) as slot:
        both = [await held(plain), await held(slot)]
        await slot.network.Register(pb.RegisterRequest(host="site-a", port=30306))
        nodes = (await plain.network.ListNodes(pb.ListNodesRequest())).nodes
        assert [node.name for node in nodes] == ["sn-1", "sl-1/0"]
        for stream in both:
            await stream.aclose()


@pytest.mark.parametrize(("role", "slot"), [("swop", "0"), ("sn", "0"), ("sl", "../x"), ("sl", "x" * 100)])
async def test_a_slot_that_its_certificate_does_not_have_is_refused(
    pki: Any, sn: RunningSN, role: str, slot: str
) -> None:
    async with client_of(sn, process_of(pki.identity(role, f"{role}-1"), slot)) as client:
        with pytest.raises(errors.IdentityError, match="slot"):
            await client.network.ListNodes(pb.ListNodesRequest())


async def test_two_swops_of_one_name_are_told_apart(pki: Any, sn: RunningSN) -> None:
    identity = pki.identity("swop", "swop-1")
    async with client_of(sn, process_of(identity)) as one, client_of(sn, process_of(identity)) as two:
        first = one.hold_name()
        await anext(first)
        running = asyncio.create_task(answering(first))
        with pytest.raises(errors.NameInUse, match=r"swop-1 is running already, at (127\.0\.0\.1|\[::1\]):\d+"):
            await anext(two.hold_name())
        running.cancel()


@pytest.mark.parametrize(
    ("process", "host", "field"), [(b"", "h", "process"), (b"1" * 17, "h", "process"), (b"1" * 16, "h" * 300, "host")]
)
async def test_a_claim_that_means_nothing_is_refused(
    pki: Any, sn: RunningSN, process: bytes, host: str, field: str
) -> None:
    async with client_of(sn, replace(pki.identity("sl", "sl-1"), process=process)) as client:
        with pytest.raises(errors.MalformedCall, match=field):
            await anext(client.hold_name(host, 1))


async def test_one_certificate_cannot_fill_the_directory(
    pki: Any, sn: RunningSN, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.sn.membership.SLOTS_LIMIT", 3)
    monkeypatch.setattr("services.sn.names.SLOTS_LIMIT", 3)
    identity, streams = pki.identity("sl", "sl-1"), []
    async with contextlib.AsyncExitStack() as stack:
        for number in range(4):
            client = await stack.enter_async_context(client_of(sn, process_of(identity, str(number))))
            request = pb.RegisterRequest(host="site-a", port=30305 + number)
            if number < 3:
                streams.append(await held(client))
                await client.network.Register(request)
            else:
                with pytest.raises(errors.TooManySlots):
                    await held(client)
                with pytest.raises(errors.TooManySlots):
                    await client.network.Register(request)
