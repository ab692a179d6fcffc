"""A link that breaks repeatedly still transfers everything, as long as a part arrives each time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from answering_peer import answering
from stored_streams import put

from services.errors import SwarmError
from services.rpc.swarm_pb2 import RoundState
from services.sl.sharding.inputs import Input, InputCallbacks, MergeContext
from services.sl.sharding.leader_merge import LeaderMerge
from services.sl.transfer import waiting
from services.sl.transfer.peers import Peers
from services.sl.transfer.store import Store, Stored
from services.sl.transfer.waiting import ResultWait
from services.sl.view import CheckInEntry, Config, TrainingMember, View
from swarm_callback.digest import SEGMENT_BYTES

SEGMENTS = 48
AT_A_TIME = 4  # so that it breaks a dozen times
WITHIN_S = 60.0


@contextlib.asynccontextmanager
async def over_a_bad_link(pki: Any, stored: Stored) -> AsyncIterator[TrainingMember]:
    """sl-1 serves its store, but every connection breaks after a few segments."""
    content = stored.path.read_bytes()

    async def part(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("segments"):
            return web.json_response(stored.manifest.described())
        asked = content[request.http_range]
        response = web.StreamResponse(status=206)
        response.content_length = len(asked)
        await response.prepare(request)
        await response.write(asked[: AT_A_TIME * SEGMENT_BYTES])
        if len(asked) > AT_A_TIME * SEGMENT_BYTES:
            await response.write(asked[AT_A_TIME * SEGMENT_BYTES :][: SEGMENT_BYTES // 2])
            assert request.transport is not None
            request.transport.close()
        return response

    async with answering(pki, part) as member:
        yield member


def view(other: TrainingMember, stored: Stored) -> View:
    model = stored.model
    config = Config(min_peers=1, sync_frequency=1, merge_method="mean")
    entry = CheckInEntry("sl-1", model.digest, model.size, 1, finished=False)
    return View(RoundState.MERGE, 1, 1, "sl-2", config, model.layout, "sl-1", (other,), (entry,), None)


async def test_an_input_of_a_shared_merge_comes_over_a_link_with_ten_breaks(pki: Any, tmp_path: Path) -> None:
    stored, mine = put(Store(tmp_path / "theirs"), SEGMENTS * SEGMENT_BYTES // 4), Store(tmp_path / "mine")
    over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def unusable(_name: str, reason: str, _segment: int) -> None:
        over.set_result(reason)

    def failed(error: SwarmError) -> None:
        over.set_exception(error)

    async with over_a_bad_link(pki, stored) as other, Peers(pki.identity("sl", "sl-2"), mine) as peers:
        place = MergeContext("sl-2", mine, peers, lambda _: other)

        def on_segment(_: int) -> None:
            if given.has(range(SEGMENTS)) and not over.done():
                over.set_result("")

        training = view(other, stored)
        given = Input(
            place, training, training.check_ins[0], InputCallbacks(lambda _: None, on_segment, unusable, failed)
        )
        given.want(range(SEGMENTS))
        async with asyncio.timeout(WITHIN_S):
            assert not await over
        await given.close()


async def test_an_input_of_an_unshared_merge_comes_over_a_link_with_ten_breaks(pki: Any, tmp_path: Path) -> None:
    stored, mine = put(Store(tmp_path / "theirs"), SEGMENTS * SEGMENT_BYTES // 4), Store(tmp_path / "mine")
    async with over_a_bad_link(pki, stored) as other, Peers(pki.identity("sl", "sl-2"), mine) as peers:
        merging = LeaderMerge(mine, peers, view(other, stored), lambda _done, _total: None, lambda _: other)
        async with asyncio.timeout(WITHIN_S):
            outcome = await merging.run(None)
        assert not outcome.left_out
        assert outcome.model == stored.model


async def test_the_patience_for_a_result_counts_from_its_last_part(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(waiting, "monotonic", lambda: now[0])
    attempts: list[int] = []
    patience = ResultWait(10.0, failed=attempts.append, _since=0.0)
    waits_s = patience.waits_s()
    for _ in range(5):
        assert next(waits_s) == waiting.WAITS_S[0]
        now[0] += 9.0
        patience.on_segment()
    assert attempts == [0] * 5
    now[0] += 11.0
    assert next(waits_s, None) is None
