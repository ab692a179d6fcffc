"""What the passing of time does to a training, and what a restart does not do to it."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from sn_swarm import WITHIN_S, config, play_round, running_sn, scripted_sl

from services.chain.factory import Choice, open_chain
from services.errors import BelowMinPeers, ChainError, StorageError
from services.rpc import swarm_pb2 as pb
from services.sn import timers
from services.sn.node import Announcement, serving
from services.sn.state import SNState, chain_choice, claimed


async def test_the_quorum_clock_closes_a_round_without_those_who_are_late(pki: Any, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sn = await stack.enter_async_context(running_sn(pki.identity("sn", "sn-1"), tmp_path))
        sls = [
            await stack.enter_async_context(scripted_sl(pki.identity("sl", f"sl-{index}"), sn.port))
            for index in range(3)
        ]
        for sl in sls:
            await sl.enrol(config(min_peers=2, quorum_wait_ms=50))
        await sls[0].check_in(1)
        waiting = await sls[0].until(lambda status: len(status.check_ins) == 1)
        assert (waiting.state, list(waiting.awaited)) == (pb.CHECKIN, ["sl-1", "sl-2"])
        await sls[1].check_in(1)
        merging = await sls[0].until(lambda status: status.state == pb.MERGE)
        assert sorted(entry.name for entry in merging.check_ins) == ["sl-0", "sl-1"]


async def test_below_min_peers_nothing_is_closed_however_long_it_takes(pki: Any, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sn = await stack.enter_async_context(running_sn(pki.identity("sn", "sn-1"), tmp_path))
        sl = await stack.enter_async_context(scripted_sl(pki.identity("sl", "sl-0"), sn.port))
        await sl.enrol(config(min_peers=2, quorum_wait_ms=0))
        await sl.check_in(1)
        with pytest.raises(BelowMinPeers, match="Only 1 of the 2 peers"):
            await sn.trainings.named(sl.contract).gateway.close_round(1, 0)
        assert (await sl.status()).state == pb.CHECKIN


async def test_a_participant_that_no_longer_watches_is_lost_and_not_waited_for(pki: Any, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sn = await stack.enter_async_context(running_sn(pki.identity("sn", "sn-1"), tmp_path, lost_after_s=0.3))
        sls = [
            await stack.enter_async_context(scripted_sl(pki.identity("sl", f"sl-{index}"), sn.port))
            for index in range(3)
        ]
        for sl in sls:
            await sl.enrol(config(min_peers=2))
        for sl in sls[:2]:
            await sl.check_in(1)
        await sls[2].stop_watching()
        merging = await sls[0].until(lambda status: status.state == pb.MERGE)
        lost = next(who for who in merging.participants if who.name == "sl-2")
        assert (lost.active, lost.left_reason) == (False, "lost")
        leader = next(sl for sl in sls if sl.name == merging.leader)
        await leader.publish(merging)
        sls[2].watch()  # it comes back: once enrolled again, it takes part
        assert "sl-2" in (await sls[2].enrol(config(min_peers=2))).awaited
        await play_round(sls, 2)


async def test_a_leader_that_no_longer_watches_is_deposed_long_before_others_would_be_lost(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "LEADER_GRACE_S", 0.2)
    async with contextlib.AsyncExitStack() as stack:
        sn = await stack.enter_async_context(running_sn(pki.identity("sn", "sn-1"), tmp_path, lost_after_s=3600))
        sls = [
            await stack.enter_async_context(scripted_sl(pki.identity("sl", f"sl-{index}"), sn.port))
            for index in range(3)
        ]
        for sl in sls:
            await sl.enrol(config(min_peers=2))
        for sl in sls:
            await sl.check_in(1)
        merging = await sls[0].until(lambda status: status.state == pb.MERGE)
        leader, *others = sorted(sls, key=lambda sl: sl.name != merging.leader)
        for sl in (others[0], leader):
            await sl.stop_watching()
        second = await others[1].until(lambda status: status.term == 2)
        assert [who.name for who in second.participants if not who.active] == [leader.name]
        assert sn.trainings.named(leader.contract).giving_up == {others[0].name}


async def test_nobody_is_lost_once_the_training_is_complete(pki: Any, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sn = await stack.enter_async_context(running_sn(pki.identity("sn", "sn-1"), tmp_path, lost_after_s=0.1))
        sls = [
            await stack.enter_async_context(scripted_sl(pki.identity("sl", f"sl-{index}"), sn.port))
            for index in range(2)
        ]
        for sl in sls:
            await sl.enrol(config(min_peers=2))
        await play_round(sls, 1, finished=True)
        await sls[1].stop_watching()
        # After two reports, each a change that wakes watchers and timers, it still counts as present.
        for loss in (0.5, 0.25):
            report = pb.ReportRequest(contract=sls[0].contract, round=1, loss=loss)
            await sls[0].client.training.Report(report)
            await sls[0].until(lambda status, loss=loss: any(who.loss == loss for who in status.participants))
        assert all(who.active for who in (await sls[0].status()).participants)
        assert not sn.trainings.named(sls[0].contract).giving_up


@pytest.mark.parametrize("chain", ["embedded", "geth"])
async def test_a_restarted_sn_goes_on_in_the_middle_of_a_round(pki: Any, tmp_path: Path, chain: Choice) -> None:
    identity = pki.identity("sn", "sn-1")
    names = ["sl-0", "sl-1"]
    async with contextlib.AsyncExitStack() as stack:
        sn = await stack.enter_async_context(running_sn(identity, tmp_path, chain=chain))
        sls = [await stack.enter_async_context(scripted_sl(pki.identity("sl", name), sn.port)) for name in names]
        for sl in sls:
            await sl.enrol(config())
        await play_round(sls, 1)
        await sls[0].client.training.Report(pb.ReportRequest(contract=sls[0].contract, round=1, loss=0.5))
        await sls[0].check_in(2)
        before = await sls[0].until(lambda status: status.round == 2 and len(status.check_ins) == 1)
    state = SNState.load(tmp_path)
    assert state is not None and list(state.trainings) == [sls[0].contract]
    async with contextlib.AsyncExitStack() as stack:
        sn = await stack.enter_async_context(running_sn(identity, tmp_path, chain=chain_choice("auto", tmp_path)))
        sls = [await stack.enter_async_context(scripted_sl(pki.identity("sl", name), sn.port)) for name in names]
        after = await sls[0].status()
        assert (after.location, after.round, after.config) == (before.location, 2, before.config)
        assert after.last_result == before.last_result and after.check_ins == before.check_ins
        assert next(who for who in after.participants if who.name == "sl-0").loss == 0.5  # written at the stop
        await sls[1].check_in(2)
        merging = await sls[1].until(lambda status: status.state == pb.MERGE)
        leader = next(sl for sl in sls if sl.name == merging.leader)
        digest = await leader.publish(merging)
        assert (await sls[0].until(lambda status: status.round == 3)).last_result.digest == digest


def test_two_nodes_do_not_share_a_data_directory(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(StorageError, match="another running node uses it"), claimed(tmp_path):
        pass
    with claimed(tmp_path):  # free again
        pass


async def test_an_sn_that_no_longer_hears_its_chain_does_not_go_on(pki: Any, tmp_path: Path) -> None:
    backend = await open_chain("embedded", tmp_path)
    where = Announcement("127.0.0.1", 0, "127.0.0.1")
    async with serving(pki.identity("sn", "sn-1"), backend, tmp_path, where, 60.0) as sn:
        await backend.close()
        with pytest.raises(ChainError, match="its events ended"):
            async with asyncio.timeout(WITHIN_S):
                await sn.background.broken()
