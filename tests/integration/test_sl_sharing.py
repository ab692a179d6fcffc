"""A shared merge gives the same result, bit for bit, although mergers and holders fail on the way."""

import asyncio
import gc
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from sl_swarm import ML, WITHIN_S, Arrays, Swarm, same, swarm_of

from services.identity.identity import Identity
from services.merge.engine import ParameterSet, merge
from services.merge.work import Plan
from services.runtime.background import Background
from services.sl.sharding import messages
from services.sl.sharding.layouts import layout_of
from services.sl.sharding.share import Share
from services.sl.sharding.worker import ShardWorker
from services.sl.transfer.packing import Packer
from swarm_callback.digest import StreamDigest
from swarm_callback.params import encode, parse_header, stream_size
from swarm_callback.rounding import round_in_place
from tests.held_files import deleted_but_held_below
from tests.pacing import pause

METHODS = ("mean", "coordmedian", "geomedian", "krum", "trimmed_mean")


def model(seed: int, elements: int = 1_500_000) -> Arrays:
    """A model of 6 MB; the odd tensor in front puts elements across segment boundaries."""
    random = np.random.default_rng(seed)
    return {
        "a": random.integers(0, 9, 3).astype(np.uint8),
        "n": np.array(seed, np.int64),
        "w": random.standard_normal(elements).astype(np.float32),
    }


def merged(method: str, models: dict[str, Arrays], *, coarse: bool = False) -> str:
    """The digest of the result of merging them on one machine."""
    digest = StreamDigest()
    sets: list[ParameterSet] = []
    for name, arrays in models.items():
        header, data = encode(arrays)
        if not sets:
            digest.update(header)
        layout = layout_of(parse_header(header, stream_size(header, data)))
        sets.append(ParameterSet(name, 1, layout, {key: values.reshape(-1) for key, values in arrays.items()}))
    assert merge(method, sets, digest.update, rounding=round_in_place if coarse else None) == ()
    return digest.digest().hex()


@pytest.mark.parametrize("method", METHODS)
async def test_the_result_is_that_of_one_machine_bit_for_bit(pki: Any, tmp_path: Path, method: str) -> None:
    names = ["sl-1", "sl-2", "sl-3", "sl-4"]
    async with swarm_of(pki, tmp_path, *names) as swarm:
        models = {name: model(number) for number, name in enumerate(names)}
        programs = [
            swarm.ml(name, models[name], same, rounds=0, min_peers=4, merge_method=method, checkin="inactive")
            for name in names
        ]
        digests = await asyncio.gather(*(program.run() for program in programs))
        (first, *_) = [event for event in await swarm.events() if type(event).__name__ == "RoundAccepted"]
        assert first.digest.hex() == merged(method, models)
        assert set(digests) == {swarm.view.last_result.digest.hex()}
        assert all(program.answers[0].contributed for program in programs)


async def test_what_earlier_rounds_were_made_of_takes_no_room_once_it_is_deleted(pki: Any, tmp_path: Path) -> None:
    """Even if Python has not yet collected the objects that held it."""

    def another(arrays: dict[str, Any], number: int) -> Arrays:
        return arrays | {"w": arrays["w"] + np.float32(number + 1)}

    gc.disable()
    try:
        async with swarm_of(pki, tmp_path, *NAMES) as swarm:
            programs = [swarm.ml(name, model(0), another, rounds=6, min_peers=4) for name in NAMES]
            await asyncio.gather(*(program.run() for program in programs))
            deleted = deleted_but_held_below(tmp_path)
    finally:
        gc.enable()
    assert len(deleted) <= len(NAMES), deleted  # from a last round that is just being closed


@pytest.mark.parametrize(("compression", "method"), [("lossless", "mean"), ("bf16", "mean"), ("bf16", "geomedian")])
async def test_what_travels_in_fewer_bytes_is_merged_all_the_same(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str, method: str
) -> None:
    packed: list[tuple[int, int]] = []
    pack = Packer.pack

    def counted(packer: Packer, data: memoryview, width: int) -> bytes:
        frame = pack(packer, data, width)
        packed.append((len(frame), len(data)))
        return frame

    monkeypatch.setattr(Packer, "pack", counted)
    async with swarm_of(pki, tmp_path, *NAMES) as swarm:
        models = {name: model(number) for number, name in enumerate(NAMES)}
        programs = [
            swarm.ml(
                name, models[name], same, rounds=0, min_peers=4, merge_method=method, checkin="inactive",
                compression=compression,
            )
            for name in NAMES
        ]  # fmt: skip
        digests = await asyncio.gather(*(program.run() for program in programs))
        (first, *_) = [event for event in await swarm.events() if type(event).__name__ == "RoundAccepted"]
        assert set(digests) == {swarm.view.last_result.digest.hex()}
        assert swarm.view.config.transfer_compression == compression
    if compression == "bf16":
        for arrays in models.values():
            round_in_place("F32", arrays["w"])
    assert first.digest.hex() == merged(method, models, coarse=compression == "bf16")
    sent, raw = (sum(sizes) for sizes in zip(*packed, strict=True))
    assert raw > 20_000_000  # everything sent, 18 MB of parameters and 18 MB of results
    assert sent < raw * (0.4 if compression == "bf16" else 0.9)


# --- what fails on the way -----------------------------------------------------------------------------------


NAMES = ("sl-1", "sl-2", "sl-3", "sl-4")


class Traps:
    """Calls ``happens`` once, when a ``chosen`` merger is first about to merge some of its share."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, chosen: Callable[[ShardWorker], bool], happens: Any) -> None:
        self.caught: list[str] = []
        merge_some = Share._merge

        async def trapped(share: Share, batch: Sequence[int], plan: Plan) -> None:
            merger = share._host
            assert isinstance(merger, ShardWorker)
            if chosen(merger) and not self.caught:
                self.caught.append(merger._place.name)
                await happens(merger._place.name)
            await merge_some(share, batch, plan)

        monkeypatch.setattr(Share, "_merge", trapped)


def leads(merger: ShardWorker) -> bool:
    return merger.view.leader == merger._place.name


def follows(merger: ShardWorker) -> bool:
    return not leads(merger)


async def results(swarm: Swarm, programs: dict[str, ML]) -> dict[str, Any]:
    """The result of each program: a digest or an error."""
    ended = await asyncio.gather(*(program.run() for program in programs.values()), return_exceptions=True)
    return dict(zip(programs, ended, strict=True))


def programs_of(swarm: Swarm, method: str = "mean", min_peers: int = 3, rounds: int = 0) -> dict[str, ML]:
    return {
        name: swarm.ml(name, model(number), same, rounds=rounds, min_peers=min_peers, merge_method=method)
        for number, name in enumerate(NAMES)
    }


@pytest.mark.parametrize("method", ["mean", "geomedian"])
async def test_a_merger_that_dies_loses_its_segments_to_others_in_the_same_term(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    async with swarm_of(pki, tmp_path, *NAMES, lost_after_s=1.0, leader_timeout_s=6.0) as swarm:

        async def dies(name: str) -> None:
            swarm.nodes[name].task.cancel()
            await asyncio.Event().wait()

        traps = Traps(monkeypatch, follows, dies)
        ended = await results(swarm, programs_of(swarm, method))
        (dead,) = traps.caught
        assert len({ended[name] for name in NAMES if name != dead}) == 1
        first = next(event for event in await swarm.events() if type(event).__name__ == "RoundAccepted")
        assert (first.round, first.term) == (1, 1)


async def test_a_merger_that_is_stopped_in_a_shared_merge_goes_without_an_error(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who watch the training for the merge learn of the end too."""
    failed: list[str] = []
    monkeypatch.setattr(Background, "_tell", lambda _, what, error: failed.append(f"{what}: {error!r}"))
    async with swarm_of(pki, tmp_path, *NAMES) as swarm:

        async def is_stopped(name: str) -> None:
            swarm.nodes[name].stop.set()
            await asyncio.Event().wait()

        traps = Traps(monkeypatch, follows, is_stopped)
        ended = await results(swarm, programs_of(swarm))
        (stopped,) = traps.caught
        assert await swarm.nodes[stopped].ended() is None
        assert failed == []
        assert len({ended[name] for name in NAMES if name != stopped}) == 1


async def test_a_merger_that_stands_still_loses_its_segments_and_gets_the_result(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with swarm_of(pki, tmp_path, *NAMES, leader_timeout_s=9.0) as swarm:

        async def stands_still(_name: str) -> None:
            await asyncio.Event().wait()

        traps = Traps(monkeypatch, follows, stands_still)
        programs = programs_of(swarm, min_peers=4)
        ended = await results(swarm, programs)
        assert traps.caught
        assert set(ended.values()) == {swarm.view.last_result.digest.hex()}
        assert all(program.answers[0].contributed for program in programs.values())
        assert "LeaderVotedOut" not in [type(event).__name__ for event in await swarm.events()]


async def test_a_leader_that_dies_in_a_shared_merge_is_followed_by_another(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with swarm_of(pki, tmp_path, *NAMES, lost_after_s=1.0, leader_timeout_s=6.0) as swarm:

        async def dies(name: str) -> None:
            swarm.nodes[name].task.cancel()
            await asyncio.Event().wait()

        traps = Traps(monkeypatch, leads, dies)
        ended = await results(swarm, programs_of(swarm))
        (dead,) = traps.caught
        assert len({ended[name] for name in NAMES if name != dead}) == 1
        first = next(event for event in await swarm.events() if type(event).__name__ == "RoundAccepted")
        assert (first.round, first.term) == (1, 2)


async def test_what_a_merger_finds_not_to_be_finite_is_left_out(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, *NAMES) as swarm:
        programs = programs_of(swarm, rounds=1)
        spoiled = {**model(3)}
        spoiled["w"][1_400_000] = np.nan
        programs["sl-4"].model = spoiled
        ended = await results(swarm, programs)
        assert len(set(ended.values())) == 1
        assert programs["sl-4"].answers[0].note == "left out of round 1: non-finite values in tensor w"
        models = {name: model(number) for number, name in enumerate(NAMES[:3])}
        first = next(event for event in await swarm.events() if type(event).__name__ == "RoundAccepted")
        assert first.digest.hex() == merged("mean", models)


async def connected(session: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
    """Connects, with retries: a node learns a little later than its SN who has enrolled."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                return await session.ws_connect(url)
            except aiohttp.WSServerHandshakeError:
                await pause(0.05)


async def test_orders_of_somebody_who_does_not_lead_are_refused(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        release = threading.Event()
        programs = [
            swarm.ml(name, model(1, 10), same, rounds=0, min_peers=2, before_first=lambda: release.wait(WITHIN_S))
            for name in ("sl-1", "sl-2")
        ]
        runs = [asyncio.create_task(program.run()) for program in programs]
        await swarm.until(lambda view: len(view.participants) == 2)
        files = swarm.issued["sl-2"]
        identity = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)
        connector = aiohttp.TCPConnector(ssl=identity.client_context())
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"https://localhost:{swarm.nodes['sl-1'].facts['port']}/v1/merge"
            async with await connected(session, url) as line:
                await line.send_str(messages.encode(messages.BeginAttempt(0, 1, 1, ("sl-1", "sl-2"))))
                answer = messages.decode(await line.receive_str(), messages.Answer)
                assert isinstance(answer, messages.Declined)
        release.set()
        await asyncio.gather(*runs)
