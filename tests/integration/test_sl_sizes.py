"""The header fixes the size: a node that announces, serves or publishes another size is left out, and harms nobody
else.
"""

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from answering_peer import answering
from sl_swarm import ML, Arrays, Swarm, swarm_of
from stored_streams import put

from services.errors import DigestMismatch, MalformedCall, PeerUnreachable, SizeDiffers, StreamDamaged, SwarmError
from services.sl.round import actions as do
from services.sl.round.runner import Runner
from services.sl.transfer import bulk
from services.sl.transfer.bulk import Bulk
from services.sl.transfer.file_server import FileServer
from services.sl.transfer.peers import Peers, manifest_limit
from services.sl.transfer.store import Store, Stored
from services.sl.view import Model
from swarm_callback import params
from swarm_callback.digest import SEGMENT_BYTES, combine
from swarm_callback.errors import ChannelError, Refused
from tests.pacing import pause

WITHIN_S = 20.0
NAMES = ("sl-1", "sl-2", "sl-3", "sl-4")
LIAR = "sl-1"
SMALL, SHARED = 1000, 1_500_000


def cut(store: Store, digest: str, more: int) -> Model:
    """Stores this stream with a few bytes more or less, under its new digest."""
    stored = store.get(digest)
    assert stored is not None
    data = stored.path.read_bytes()
    data = data[:more] if more < 0 else data + bytes(more)
    body = data[stored.header_size :]
    hashes = [hashlib.sha256(body[at : at + SEGMENT_BYTES]).digest() for at in range(0, len(body), SEGMENT_BYTES)]
    found = combine(bytes.fromhex(stored.model.layout), hashes).hex()
    path = stored.path.with_name(f"{found}.safetensors")
    path.write_bytes(data)
    model = Model(found, len(data), stored.model.layout)
    store._index[found] = Stored(model, path, stored.header_size, tuple(hashes))
    return model


# --- what one peer serves ---------------------------------------------------------------------------------------


async def test_of_an_endless_manifest_no_more_is_read_than_the_size_gives(pki: Any, tmp_path: Path) -> None:
    size = 10_000_000
    hung_up = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 4096)
        finally:
            hung_up.set()

    async with (
        answering(pki, endless) as liar,
        Peers(pki.identity("sl", "sl-2"), Store(tmp_path)) as peers,
        asyncio.timeout(WITHIN_S),
    ):
        with pytest.raises(DigestMismatch, match="something unreadable"):
            await peers.manifest(liar, "ab" * 32, size)
        await hung_up.wait()
    assert manifest_limit(size) < 5_000


@pytest.mark.parametrize("size", [SMALL, 10_000_000])
async def test_who_sends_next_to_nothing_is_given_up(pki: Any, tmp_path: Path, size: int) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = size
        await response.prepare(request)
        header, _ = params.encode({"w": np.ones((size - 72) // 4, np.float32)})
        await response.write(header)
        while True:
            await response.write(b" ")
            await pause(0.02)

    async with (
        answering(pki, trickle) as liar,
        Peers(pki.identity("sl", "sl-2"), Store(tmp_path), stall_s=0.3) as peers,
        asyncio.timeout(WITHIN_S),
    ):
        with pytest.raises(PeerUnreachable, match=r"it sent \d+ bytes in"):
            await peers.fetch("ab" * 32, size, lambda: [liar])


@pytest.mark.parametrize("elements", [20_000, SHARED], ids=["alone", "shared"])
async def test_who_serves_too_slowly_to_come_to_an_end_is_left_out(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elements: int
) -> None:
    """It sends enough not to be given up at once, as a leader that waits for it would be."""
    start, stream, send = FileServer.start, FileServer._stream, Bulk._send
    slow: set[object] = set()

    async def started(server: FileServer, bound: Any) -> None:
        if server._identity.name == LIAR:
            slow.update({server, server._bulk})
        await start(server, bound)

    async def streamed(server: FileServer, request: web.Request) -> web.StreamResponse:
        if server not in slow:
            return await stream(server, request)
        stored = server._found(request)
        response = web.StreamResponse()
        response.content_length = stored.model.size
        await response.prepare(request)
        for at in range(0, stored.model.size, 64):
            await response.write(stored.path.read_bytes()[at : at + 64])
            await pause(0.02)
        return response

    def sent(served: Bulk, tls: Any, found: Any, span: tuple[int, int], packer: Any) -> Any:
        if served not in slow:
            yield from send(served, tls, found, span, packer)
            return
        for at in range(*span, 64):
            yield from bulk._sent(tls, os.pread(found.file, min(64, span[1] - at), at))
            threading.Event().wait(0.02)

    monkeypatch.setattr(FileServer, "start", started)
    monkeypatch.setattr(FileServer, "_stream", streamed)
    monkeypatch.setattr(Bulk, "_send", sent)
    limits = {"leader_timeout_s": 3.0, "longest_merge_s": 4.0}
    async with swarm_of(pki, tmp_path, *NAMES[1:3], **limits) as swarm:
        await swarm.sl(LIAR, may_lead=False, **limits)
        programs = [
            swarm.ml(
                name, {"w": np.full(elements, number, np.float32)}, lambda arrays, _: arrays, rounds=0, min_peers=2
            )
            for number, name in enumerate(NAMES[:3])
        ]
        assert len(set(await asyncio.gather(*(program.run() for program in programs)))) == 1
        events = await swarm.events()
    assert "LeaderDeposed" not in {type(event).__name__ for event in events}
    reasons = {(event.name, event.reason) for event in events if type(event).__name__ == "LeftOut"}
    assert reasons == {(LIAR, "its parameters did not arrive within 2 s")}


@pytest.mark.parametrize("more", [-4, 4, -SEGMENT_BYTES, SEGMENT_BYTES])
async def test_a_manifest_of_another_size_than_its_header_gives_is_refused(pki: Any, tmp_path: Path, more: int) -> None:
    store, mine = Store(tmp_path / "server"), Store(tmp_path / "client")
    put(mine, SHARED)
    lie = cut(store, put(store, SHARED).model.digest, more)
    stored = store.get(lie.digest)
    assert stored is not None
    described = stored.manifest.described()

    async def told(_request: web.Request) -> web.StreamResponse:
        return web.json_response(described)

    async with answering(pki, told) as liar, Peers(pki.identity("sl", "sl-2"), mine) as peers:
        with pytest.raises(StreamDamaged, match="under a header for"):
            await peers.begin(liar, lie.digest, lie.size)
    assert mine.partial(lie.digest) is None


HOSTILE = {
    "larger than all": b"\xff" * 7 + b"\x7f",
    "no JSON": (16).to_bytes(8, "little") + b"\xff" * 16,
    "endless lists": (4000).to_bytes(8, "little") + b"[" * 4000,
    "more than there is": b'{"w":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,900]}}',
    "beyond the end": b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[99999999999,100000000007]}}',
    "no numbers": b'{"w":{"dtype":"F32","shape":["x"],"data_offsets":[0,[]]}}',
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("size", [SMALL, 10_000_000])
async def test_a_hostile_header_costs_whoever_serves_it_and_nothing_else(
    pki: Any, tmp_path: Path, kind: str, size: int
) -> None:
    header = HOSTILE[kind]
    if header.startswith(b"{"):
        header = len(header).to_bytes(8, "little") + header

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/segments"):
            text = {"header": len(header), "segments": ["ab" * 32] * (size // SEGMENT_BYTES + 1)}
            return web.json_response(text)
        return web.Response(body=header + bytes(max(0, size - len(header))))

    store = Store(tmp_path)
    async with answering(pki, serve) as liar, Peers(pki.identity("sl", "sl-2"), store, stall_s=1.0) as peers:
        with pytest.raises((DigestMismatch, StreamDamaged, PeerUnreachable)) as refused:
            await peers.fetch("ab" * 32, size, lambda: [liar])
    assert "sl-1" in str(refused.value)
    assert files_in(tmp_path) == []


def files_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


# --- a whole swarm ----------------------------------------------------------------------------------------------


def model(seed: int, elements: int) -> Arrays:
    return {"w": np.random.default_rng(seed).standard_normal(elements).astype(np.float32)}


def trained(arrays: dict[str, Any], _number: int) -> Arrays:
    return {name: values + np.float32(0.5) for name, values in arrays.items()}


Lie = Callable[[Runner, Model], Model]


def announce(monkeypatch: pytest.MonkeyPatch, in_round: int, lie: Lie) -> None:
    """Makes the liar check in what ``lie`` turns its parameters into."""
    honest = Runner._check_in

    async def check_in(runner: Runner, action: do.SendCheckIn) -> None:
        if runner._name == LIAR and action.round == in_round:
            action = replace(action, model=lie(runner, action.model))
        await honest(runner, action)

    monkeypatch.setattr(Runner, "_check_in", check_in)


def as_big_as_allowed(_runner: Runner, announced: Model) -> Model:
    return replace(announced, size=2**40)


def beyond_all(_runner: Runner, announced: Model) -> Model:
    return replace(announced, size=2**62)


def four_bytes_short(runner: Runner, announced: Model) -> Model:
    return cut(runner._store, announced.digest, -4)


def four_bytes_long(runner: Runner, announced: Model) -> Model:
    return cut(runner._store, announced.digest, 4)


async def trained_with_a_liar(swarm: Swarm, elements: int) -> tuple[list[Any], list[str | BaseException]]:
    """Returns all events, and how the programs ended, the liar's first. The liar checks in first."""
    programs = {
        name: swarm.ml(name, model(number, elements), trained, rounds=2, min_peers=2)
        for number, name in enumerate(NAMES)
    }
    ran = [asyncio.create_task(_run(programs[LIAR]))]
    await swarm.until(lambda view: bool(view.check_ins))
    ran += [asyncio.create_task(_run(programs[name])) for name in NAMES[1:]]
    ends = await asyncio.gather(*ran)
    return await swarm.events(), ends


async def _run(program: ML) -> str | BaseException:
    try:
        return await program.run()
    except (Refused, ChannelError) as error:
        return error


@pytest.mark.parametrize("elements", [SMALL, SHARED])
@pytest.mark.parametrize("lie", [as_big_as_allowed, four_bytes_short, four_bytes_long])
async def test_who_announces_another_size_first_of_all_is_left_out_in_the_first_term(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elements: int, lie: Lie
) -> None:
    announce(monkeypatch, 1, lie)
    async with swarm_of(pki, tmp_path, *NAMES) as swarm:
        events, ends = await trained_with_a_liar(swarm, elements)
    assert len(set(ends)) == 1  # the liar, too, ends with the model, to which it did not contribute
    (left_out,) = [event for event in events if type(event).__name__ == "LeftOut"]
    (first, *_) = [event for event in events if type(event).__name__ == "RoundAccepted"]
    assert (left_out.name, left_out.round, left_out.term) == (LIAR, 1, 1)
    assert left_out.reason.startswith("it announced ")
    assert (first.term, first.participants) == (1, 3)
    assert first.size == params.stream_size(*params.encode(model(1, elements)))


@pytest.mark.parametrize(
    ("lie", "error"), [(beyond_all, MalformedCall), (as_big_as_allowed, SizeDiffers), (four_bytes_short, SizeDiffers)]
)
async def test_who_announces_another_size_later_is_refused(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: Lie, error: type[SwarmError]
) -> None:
    announce(monkeypatch, 2, lie)
    async with swarm_of(pki, tmp_path, *NAMES) as swarm:
        events, ends = await trained_with_a_liar(swarm, SMALL)
        assert isinstance(await swarm.nodes[LIAR].ended(), error)
    assert isinstance(ends[0], Refused)
    assert len(set(ends[1:])) == 1
    kinds = {type(event).__name__ for event in events}
    assert not kinds & {"LeftOut", "LeaderVotedOut"}


async def test_a_leader_that_publishes_another_size_is_refused(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, lied = Runner._perform, []

    def perform(runner: Runner, action: do.Action) -> None:
        if isinstance(action, do.Publish) and not lied:
            lied.append(runner._name)
            action = replace(action, model=replace(action.model, size=2**40))
        honest(runner, action)

    monkeypatch.setattr(Runner, "_perform", perform)
    async with swarm_of(pki, tmp_path, *NAMES) as swarm:
        programs = {name: swarm.ml(name, model(1, SMALL), trained, rounds=1, min_peers=2) for name in NAMES}
        ends = dict(zip(NAMES, await asyncio.gather(*(_run(program) for program in programs.values())), strict=True))
        (liar,) = lied
        assert isinstance(await swarm.nodes[liar].ended(), SizeDiffers)
        events = await swarm.events()
    assert len({end for name, end in ends.items() if name != liar and isinstance(end, str)}) == 1
    assert {event.size for event in events if type(event).__name__ == "RoundAccepted"} == {
        params.stream_size(*params.encode(model(1, SMALL)))
    }
