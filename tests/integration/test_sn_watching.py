"""Watch streams: they can be resumed, skip states, and always deliver the last state."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sn_swarm import WITHIN_S, Sl, config, play_round, running_sn, scripted_sl

from services.rpc import swarm_pb2 as pb
from services.sn.node import RunningSN


@pytest.fixture
async def sn(pki: Any, tmp_path: Path) -> AsyncIterator[RunningSN]:
    async with running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn") as running:
        yield running


@pytest.fixture
async def pair(pki: Any, sn: RunningSN) -> AsyncIterator[list[Sl]]:
    """Two enrolled SLs that watch."""
    async with contextlib.AsyncExitStack() as stack:
        sls = [
            await stack.enter_async_context(scripted_sl(pki.identity("sl", name), sn.port)) for name in ("sl-1", "sl-2")
        ]
        for sl in sls:
            await sl.enrol(config())
        yield sls


async def test_versions_grow_with_every_change(pair: list[Sl]) -> None:
    await play_round(pair, 1)
    await play_round(pair, 2)
    versions = [status.version for status in pair[0].seen]
    assert versions == sorted(set(versions))


async def test_a_watcher_that_comes_back_gets_only_what_is_newer(pair: list[Sl]) -> None:
    await play_round(pair, 1)
    now = await pair[0].status()
    back = Sl(pair[0].client, "sl-1", pair[0].contract)
    back.watch(seen=now.version)
    await pair[0].check_in(2)
    first = await back.until(lambda status: True)
    assert [entry.name for entry in first.check_ins] == ["sl-1"] and first.version > now.version
    late = Sl(pair[0].client, "sl-1", pair[0].contract)
    late.watch(seen=now.version)  # something has changed since: the state comes at once
    assert (await late.until(lambda status: True)).version == first.version
    await back.stop_watching()
    await late.stop_watching()


async def test_a_version_from_before_a_restart_is_answered_with_the_state(pair: list[Sl]) -> None:
    ahead = Sl(pair[0].client, "sl-1", pair[0].contract)
    ahead.watch(seen=(await pair[0].status()).version + 5)
    assert [who.name for who in (await ahead.until(lambda status: True)).participants] == ["sl-1", "sl-2"]
    await ahead.stop_watching()


async def test_a_slow_watcher_skips_states_but_never_the_last(pair: list[Sl]) -> None:
    slow = pair[0].client.watch(pair[0].contract)
    received = [await anext(slow)]  # then it does not read while much happens
    for round_number in range(1, 6):
        await play_round(pair, round_number)
    final = await play_round(pair, 6, finished=True)
    async with asyncio.timeout(WITHIN_S):
        while received[-1].state != pb.COMPLETE:
            received.append(await anext(slow))
    assert received[-1].last_result.digest == final
    await slow.aclose()


async def test_a_watcher_is_let_go_when_the_sn_stops(pki: Any, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sn_stack = await stack.enter_async_context(contextlib.AsyncExitStack())
        sn = await sn_stack.enter_async_context(running_sn(pki.identity("sn", "sn-1"), tmp_path / "other"))
        sl = await stack.enter_async_context(scripted_sl(pki.identity("sl", "sl-1"), sn.port, watching=False))
        stream = sl.client.watch(sl.contract)
        await anext(stream)
        rest = asyncio.create_task(_rest(stream))
        await sn_stack.aclose()
        async with asyncio.timeout(WITHIN_S):
            assert await rest == []


async def test_progress_is_told_but_not_written(pair: list[Sl]) -> None:
    for sl in pair:
        await sl.check_in(1)
    merging = await pair[0].until(lambda status: status.state == pb.MERGE)
    leader, follower = (pair[0], pair[1]) if merging.leader == "sl-1" else (pair[1], pair[0])
    block = (await leader.client.network.GetInfo(pb.GetInfoRequest())).block
    for done in range(1, 101):
        await leader.client.training.ReportProgress(
            pb.ProgressRequest(contract=leader.contract, round=1, term=merging.term, bytes_done=done, bytes_total=100)
        )
    last = await follower.until(lambda status: status.progress.bytes_done == 100)
    assert last.progress.age_s < WITHIN_S
    told = {status.progress.bytes_done for status in follower.seen if status.HasField("progress")}
    assert len(told) < 50  # at most two a second, however often the leader speaks
    assert (await leader.client.network.GetInfo(pb.GetInfoRequest())).block == block


async def test_reports_reach_every_watcher_and_the_last_one_counts(pair: list[Sl]) -> None:
    await play_round(pair, 1)
    for loss in (0.5, 0.25):
        await pair[1].client.training.Report(
            pb.ReportRequest(contract=pair[1].contract, round=1, loss=loss, metric=0.9, epochs_done=1, epochs_total=3)
        )
    seen = await pair[0].until(lambda status: any(who.loss == 0.25 for who in status.participants))
    reported = next(who for who in seen.participants if who.name == "sl-2")
    assert (reported.report_round, reported.metric, reported.epochs_done, reported.epochs_total) == (1, 0.9, 1, 3)


async def _rest(stream: AsyncIterator[pb.TrainingStatus]) -> list[pb.TrainingStatus]:
    return [status async for status in stream]
