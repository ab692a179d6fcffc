"""Many participants: more connections, and more reads of data not made yet, than any pool has room for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sl_swarm
from open_readers import everything
from sl_swarm import Arrays, same, swarm_of
from stored_streams import put

from services.sl.sharding.messages import BeginAttempt, encode
from services.sl.transfer import bulk, connections
from services.sl.transfer.file_server import FileServer, bind
from services.sl.transfer.peers import Peers
from services.sl.transfer.pulling import Pull, Source
from services.sl.transfer.store import Store
from services.sl.view import TrainingMember

WITHIN_S = 20.0
DRAFT = "1-1-1"


def model(seed: int, elements: int) -> Arrays:
    return {"w": np.random.default_rng(seed).standard_normal(elements).astype(np.float32)}


async def listen(_peer: object, line: Any) -> None:
    async for _ in line:
        pass


@contextlib.asynccontextmanager
async def serving(pki: Any, store: Store, count: int) -> AsyncIterator[list[TrainingMember]]:
    """Several servers, as each allows a peer only a few connections."""
    async with contextlib.AsyncExitStack() as stack:
        members = []
        for number in range(count):
            server = FileServer(pki.identity("sl", "sl-1"), store, everything(), follow=listen)
            bound = stack.enter_context(bind("127.0.0.1", 0))
            await server.start(bound)
            stack.push_async_callback(server.stop)
            members.append(TrainingMember(f"sl-1/node-{number}", "localhost", bound.getsockname()[1], "", active=True))
        yield members


async def test_lines_to_a_hundred_participants_leave_room_for_all_else(pki: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "server")
    small, large = put(store, 1000), put(store, 500_000)
    async with (
        serving(pki, store, 8) as members,
        contextlib.AsyncExitStack() as lines,
        Peers(pki.identity("sl", "sl-2"), Store(tmp_path / "leader")) as leader,
        asyncio.timeout(WITHIN_S),
    ):
        for number in range(100):
            line = await lines.enter_async_context(leader.line_to(members[number % 7]))
            await line.send_str(encode(BeginAttempt(1, 1, 1, ())))
        got = await leader.fetch(small.model.digest, small.model.size, lambda: [members[7]])
        assert got.model == small.model
        assert await leader.manifest(members[7], large.model.digest, large.model.size) == large.manifest
        await lines.enter_async_context(leader.line_to(members[7]))


async def test_reads_of_what_is_not_made_yet_hold_no_thread(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_AT_ONCE", 1)
    monkeypatch.setattr(bulk, "THREADS", 1)
    store, client = Store(tmp_path / "server"), Store(tmp_path / "client")
    stored = put(store, 500_000)
    content, header, count = stored.path.read_bytes(), stored.header(), len(stored.segments)
    made = store.draft(DRAFT, stored.model.size, header, count)
    mine = client.draft(DRAFT, stored.model.size, header, count)
    async with (
        serving(pki, store, 1) as members,
        Peers(pki.identity("sl", "sl-2"), client) as peers,
        asyncio.timeout(WITHIN_S),
    ):
        pull = Pull(mine, client, peers.transfers, lambda _: None, apart=True)
        for index in range(count):  # for each segment, another merger announces that it will make it
            merger = TrainingMember(f"sl-1/merger-{index}", "localhost", members[0].port, "", active=True)
            pull.offer(Source(merger, f"/v1/merges/{DRAFT}", made=False), [index])
        sizes = [made.size_of(index) for index in range(count)]
        pieces: list[int] = []
        path = f"/v1/models/{stored.model.digest}"
        await peers.transfers.read(  # an input still arrives
            members[0], path, (made.header_size, sizes), lambda number, _: pieces.append(number), lambda _: None
        )
        assert pieces == list(range(count))
        for index in reversed(range(count)):
            start = made.start_of(index)
            made.put(index, memoryview(content)[start : start + made.size_of(index)])
            store.draft_grew.notify()
            await pull.until([index])
        await pull.close()
    assert mine.complete


async def test_more_participants_than_threads_merge_without_a_stall(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_AT_ONCE", 2)
    monkeypatch.setattr(bulk, "THREADS", 2)
    names = [f"sl-{number}" for number in range(1, 6)]
    async with swarm_of(pki, tmp_path, *names) as swarm:
        programs = [
            swarm.ml(name, model(number, 1_500_000), same, rounds=1, min_peers=5) for number, name in enumerate(names)
        ]
        digests = await asyncio.gather(*(program.run() for program in programs))
        events = [type(event).__name__ for event in await swarm.events()]
    assert len(set(digests)) == 1
    assert "LeaderVotedOut" not in events
    assert "LeftOut" not in events


@pytest.mark.timeout(300)
async def test_a_shared_merge_of_thirty_three(pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sl_swarm, "WITHIN_S", 150.0)  # all of it in one process
    names = [f"sl-{number}" for number in range(1, 34)]
    async with swarm_of(pki, tmp_path, *names, log_level="WARNING") as swarm:
        programs = [
            swarm.ml(name, model(number, 1_060_000), same, rounds=0, min_peers=33) for number, name in enumerate(names)
        ]
        digests = await asyncio.gather(*(program.run() for program in programs))
        events = [type(event).__name__ for event in await swarm.events()]
    assert len(set(digests)) == 1
    assert "LeaderVotedOut" not in events
    assert "LeftOut" not in events
