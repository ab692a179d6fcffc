"""A contribution reaches those who merge it and nobody else, by each interface of the file server."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from sl_swarm import swarm_of
from stored_streams import put

from services.errors import PeerUnreachable
from services.identity.identity import Identity
from services.rpc.swarm_pb2 import RoundState
from services.runtime.signals import ChangeSignal
from services.sl.transfer import bulk, file_server
from services.sl.transfer.file_server import FileServer, bind
from services.sl.transfer.peers import SMALL_BYTES, Peers
from services.sl.transfer.readers import Readers
from services.sl.transfer.store import Store, Stored
from services.sl.view import CheckInEntry, Config, TrainingMember, View

WITHIN_S = 30.0
FEW, MANY = 4, SMALL_BYTES  # elements: fetched in one HTTP request, or in segments


class Holder:
    """sl-1 with a contribution; sl-1 to sl-3 take part. ``sees``: what its SN tells it."""

    def __init__(self, pki: Any, store: Store, elements: int) -> None:
        self.stored = put(store, elements)
        self.port = 0
        self.results: set[str] = set()
        members = [self._member(pki, name) for name in ("sl-1", "sl-2", "sl-3")]
        self.view = View(
            phase=RoundState.CHECKIN,
            round=1,
            term=0,
            leader="",
            config=Config(min_peers=2, sync_frequency=1, merge_method="mean"),
            layout="",
            layout_by="",
            members=tuple(members),
            check_ins=(CheckInEntry("sl-1", self.stored.model.digest, self.stored.model.size, 1, False),),
            last=None,
        )
        self._changed = ChangeSignal()
        self.readers = Readers(lambda: self.view, self._asked_for_results, self._changed)
        self.refused_for_now = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def _member(self, pki: Any, name: str) -> TrainingMember:
        return TrainingMember(name, "localhost", 1, pki.identity("sl", name).fingerprint, active=True)

    def _asked_for_results(self) -> set[str]:
        """Called if the reader does not merge, as far as the holder knows."""
        self._loop.call_soon_threadsafe(self.refused_for_now.set)
        return self.results

    def sees(self, leader: str, term: int = 1) -> None:
        self.view = replace(self.view, phase=RoundState.MERGE, term=term, leader=leader)
        self._changed.notify()

    async def fetch(self, peers: Peers) -> Stored:
        at = TrainingMember("sl-1", "localhost", self.port, "", active=True)
        return await peers.fetch(self.stored.model.digest, self.stored.model.size, lambda: [at])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder does not wait for news that might allow the read."""
    monkeypatch.setattr(file_server, "CATCH_UP_S", 0.0)
    monkeypatch.setattr(bulk, "CATCH_UP_S", 0.0)


@contextlib.asynccontextmanager
async def holding(pki: Any, tmp_path: Path, elements: int) -> AsyncIterator[Holder]:
    store = Store(tmp_path / "server")
    holder = Holder(pki, store, elements)
    server = FileServer(pki.identity("sl", "sl-1"), store, holder.readers)
    with bind("127.0.0.1", 0) as bound:
        holder.port = bound.getsockname()[1]
        await server.start(bound)
        try:
            async with asyncio.timeout(WITHIN_S):
                yield holder
        finally:
            await server.stop()


def reader(pki: Any, tmp_path: Path, name: str) -> Peers:
    return Peers(pki.identity("sl", name), Store(tmp_path / name))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("elements", [FEW, MANY])
async def test_only_the_leader_gets_what_it_merges_alone(pki: Any, tmp_path: Path, elements: int) -> None:
    async with (
        holding(pki, tmp_path, elements) as holder,
        reader(pki, tmp_path, "sl-2") as leader,
        reader(pki, tmp_path, "sl-3") as other,
        reader(pki, tmp_path, "sl-9") as stranger,
    ):
        with pytest.raises(PeerUnreachable, match=r"403 .a contribution is for the leader"):
            await holder.fetch(leader)  # not the leader yet
        holder.sees(leader="sl-2")
        assert (await holder.fetch(leader)).model == holder.stored.model
        with pytest.raises(PeerUnreachable, match=r"403 .a contribution is for the leader"):
            await holder.fetch(other)
        with pytest.raises(PeerUnreachable, match=r"403 .only participants of the training"):
            await holder.fetch(stranger)
        assert list((tmp_path / "sl-3").iterdir()) == []


@pytest.mark.usefixtures("impatient")
async def test_nobody_gets_it_in_ranges_either(pki: Any, tmp_path: Path) -> None:
    """By the interface for segments, without a manifest. The header is for all: it says what differs."""
    async with holding(pki, tmp_path, MANY) as holder, reader(pki, tmp_path, "sl-3") as other:
        holder.sees(leader="sl-2")
        at = TrainingMember("sl-1", "localhost", holder.port, "", active=True)
        path, header = f"/v1/models/{holder.stored.model.digest}", holder.stored.header_size
        taken: list[bytes] = []
        for cut in ((header, [100]), (0, [header + 1])):
            with pytest.raises(PeerUnreachable, match="403"):
                await other.transfers.read(at, path, cut, lambda _, data: taken.append(bytes(data)), lambda _: None)
        url = f"https://localhost:{holder.port}{path}"
        connector = aiohttp.TCPConnector(ssl=pki.identity("sl", "sl-3").client_context())
        async with aiohttp.ClientSession(connector=connector) as client:
            for asked in ({}, {"Range": f"bytes={header}-{header}"}, {"Range": "bytes=-1"}, {"Range": "bytes=0-"}):
                async with client.get(url, headers=asked) as response:
                    assert response.status == 403
        assert taken == []
        specs = await other.fetch_specs(holder.stored.model.digest, holder.stored.model.size, at)
        assert specs == holder.stored.specs()


@pytest.mark.parametrize("elements", [FEW, MANY])
async def test_a_leader_that_hears_of_its_term_before_the_holder_does_is_served_then(
    pki: Any, tmp_path: Path, elements: int
) -> None:
    """Also a leader that takes over from another: no attempt of the reader is lost."""
    async with holding(pki, tmp_path, elements) as holder, reader(pki, tmp_path, "sl-3") as leader:
        holder.sees(leader="sl-2")
        fetching = asyncio.create_task(holder.fetch(leader))
        await holder.refused_for_now.wait()
        assert not fetching.done()
        holder.sees(leader="sl-3", term=2)
        assert (await fetching).model == holder.stored.model


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("elements", [FEW, MANY])
async def test_a_result_is_for_every_participant_at_any_time(pki: Any, tmp_path: Path, elements: int) -> None:
    async with (
        holding(pki, tmp_path, elements) as holder,
        reader(pki, tmp_path, "sl-3") as late,
        reader(pki, tmp_path, "sl-9") as stranger,
    ):
        holder.results.add(holder.stored.model.digest)
        assert (await holder.fetch(late)).model == holder.stored.model
        with pytest.raises(PeerUnreachable, match=r"403 .only participants of the training"):
            await holder.fetch(stranger)


@pytest.mark.usefixtures("impatient")
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("elements", [FEW, MANY])
async def test_what_the_running_merge_does_not_need_is_for_nobody(pki: Any, tmp_path: Path, elements: int) -> None:
    """Not even for the leader: a contribution to an earlier round, or one that was withdrawn."""
    async with holding(pki, tmp_path, elements) as holder, reader(pki, tmp_path, "sl-2") as leader:
        (entry,) = holder.view.check_ins
        holder.view = replace(holder.view, check_ins=(replace(entry, digest="f" * 64),))
        holder.sees(leader="sl-2")
        with pytest.raises(PeerUnreachable, match="403"):
            await holder.fetch(leader)
        holder.view = replace(holder.view, check_ins=(entry,))
        holder.sees(leader="sl-2", term=2)
        assert (await holder.fetch(leader)).model == holder.stored.model


async def test_a_participant_that_waits_for_its_turn_reads_no_contribution_of_another(pki: Any, tmp_path: Path) -> None:
    """The training goes on as if nobody had tried."""
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        turn = threading.Event()
        first = swarm.ml("sl-1", {"w": np.ones(4, np.float32)}, lambda arrays, _: arrays, rounds=0, min_peers=2)
        second = swarm.ml("sl-2", {"w": np.zeros(4, np.float32)}, lambda arrays, _: arrays, rounds=0, min_peers=2)
        second.before_first = lambda: turn.wait(WITHIN_S)
        running = [asyncio.create_task(program.run()) for program in (first, second)]
        await swarm.until(lambda view: "sl-1" in view.check_ins and "sl-2" in view.participants)
        entry, files = swarm.view.check_ins["sl-1"], swarm.issued["sl-2"]
        at = TrainingMember("sl-1", "localhost", swarm.nodes["sl-1"].facts["port"], "", active=True)
        curious = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)
        async with Peers(curious, Store(tmp_path / "curious")) as peers:
            with pytest.raises(PeerUnreachable, match="403"):
                await peers.fetch(entry.digest.hex(), entry.size, lambda: [at])
        turn.set()
        assert len(set(await asyncio.gather(*running))) == 1
