"""Whole rounds: three SLs, one SN, real certificates, real pipes, tiny models."""

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import Arrays, swarm_of

from services.runtime import logs
from services.sl.round import runner
from services.sl.view import View

LATER = 12  # a round


def model(value: float) -> Arrays:
    return {"w": np.full((3, 4), value, np.float32), "n": np.array(int(value), np.int64)}


def add(amount: float) -> Any:
    return lambda arrays, _number: {**arrays, "w": arrays["w"] + np.float32(amount)}


async def test_three_nodes_end_with_one_model_whose_digest_is_on_the_chain(pki: Any, tmp_path: Path) -> None:
    names = ["sl-1", "sl-2", "sl-3"]
    async with swarm_of(pki, tmp_path, *names) as swarm:
        programs = [swarm.ml(name, model(i), add(i)) for i, name in enumerate(names)]
        digests = await asyncio.gather(*(program.run() for program in programs))
        for name in names:
            assert await swarm.nodes[name].ended() is None
        assert len(set(digests)) == 1
        assert swarm.view.last_result.digest.hex() == digests[0]
        assert [answer.contributed for answer in programs[0].answers] == [True] * 4
        assert {who.left_reason for who in swarm.view.participants.values()} == {"finished"}


def views() -> list[View]:
    return [found for found in gc.get_objects() if type(found) is View]


async def test_of_rounds_that_are_over_a_node_keeps_no_view(pki: Any, tmp_path: Path) -> None:
    kept: list[int] = []
    of_other_tests = views()

    def look(number: int) -> None:
        if number == LATER:
            gc.collect()
            kept.extend(view.round for view in views() if not any(view is other for other in of_other_tests))

    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        programs = [swarm.ml(name, model(1), add(1), rounds=LATER + 1, min_peers=2) for name in ("sl-1", "sl-2")]
        programs[0].between = look
        await asyncio.gather(*(program.run() for program in programs))
    assert max(kept) > LATER
    assert min(kept) >= LATER


async def test_weights_count(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        first = swarm.ml("sl-1", model(0), add(0), rounds=0, min_peers=2, weight=3)
        second = swarm.ml("sl-2", model(4), add(0), rounds=0, min_peers=2, weight=1)
        begun: list[Any] = []
        first.train = second.train = lambda arrays, _number: begun.append(arrays["w"].copy()) or arrays  # type: ignore[func-returns-value]
        await asyncio.gather(first.run(), second.run())
        np.testing.assert_array_equal(begun[0], np.full((3, 4), 1, np.float32))


async def test_nodes_reach_each_other_by_ipv6(pki: Any, tmp_path: Path) -> None:
    names = ["sl-1", "sl-2"]
    async with swarm_of(pki, tmp_path) as swarm:
        for name in names:
            swarm.issued[name] = pki.issue("sl", name, hosts=["::1"])
            await swarm.sl(name, host="::", host_ip="::1")
            assert swarm.trainings.membership.members["sl", name].host == "::1"
        programs = [swarm.ml(name, model(i), add(i), rounds=0, min_peers=2) for i, name in enumerate(names)]
        assert len(set(await asyncio.gather(*(program.run() for program in programs)))) == 1


async def test_a_late_joiner_goes_on_from_the_last_merged_model(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2", "sl-3", quorum_wait_s=0.5) as swarm:
        joined = threading.Event()
        early = [
            swarm.ml(
                name, model(1), add(1), rounds=3, min_peers=2, between=lambda number: number < 2 or joined.wait(30)
            )
            for name in ("sl-1", "sl-2")
        ]
        running = [asyncio.create_task(program.run()) for program in early]
        await swarm.until(lambda view: view.last_result is not None and view.last_result.round >= 3)
        late = swarm.ml("sl-3", model(99), add(1), rounds=1, min_peers=2, between=lambda _: joined.set())
        digests = await asyncio.gather(late.run(), *running)
        assert late.opened is not None
        assert late.opened.late
        assert not late.answers[0].contributed
        assert "without this node" in late.answers[0].note
        assert len(set(digests)) == 1


async def test_a_node_that_finishes_first_takes_part_until_the_others_have_finished(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2", "sl-3") as swarm:
        programs = [
            swarm.ml("sl-1", model(1), add(1), rounds=0, checkin="snapshot"),
            swarm.ml("sl-2", model(1), add(1), rounds=1, checkin="active"),
            swarm.ml("sl-3", model(1), add(1), rounds=3, checkin="inactive"),
        ]
        digests = await asyncio.gather(*(program.run() for program in programs))
        assert len(set(digests)) == 1
        assert swarm.view.last_result.digest.hex() == digests[0]
        assert swarm.view.last_result.round == 5
        assert len(programs[0].answers) == 2


@pytest.mark.parametrize("size", [12, 3_000_000])
async def test_the_first_result_is_the_own_set_of_one_node(pki: Any, tmp_path: Path, size: int) -> None:
    """With a model merged by one node, and one large enough for a shared merge."""
    names = ["sl-1", "sl-2", "sl-3"]
    async with swarm_of(pki, tmp_path, *names) as swarm:
        begun: list[Any] = []
        programs = [
            swarm.ml(name, {"w": np.full(size, i, np.float32)}, add(0), rounds=0, first_merge="leader")
            for i, name in enumerate(names)
        ]
        for program in programs:
            program.train = lambda arrays, _number: begun.append(arrays["w"].copy()) or arrays  # type: ignore[func-returns-value]
        await asyncio.gather(*(program.run() for program in programs))
        events = await swarm.events()
        first = next(event for event in events if type(event).__name__ == "RoundAccepted")
        given = {
            event.name: event.digest for event in events if type(event).__name__ == "CheckedIn" and event.round == 1
        }
        assert first.digest == given[first.leader]
        assert {float(arrays.mean()) for arrays in begun} == {float(names.index(first.leader))}
        assert all(answer.contributed for program in programs for answer in program.answers)


async def test_a_node_that_trains_longer_is_waited_for_and_none_is_cut_off(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2", "sl-3", quorum_wait_s=20) as swarm:
        short = [swarm.ml(name, model(1), add(1), rounds=1, min_peers=2) for name in ("sl-1", "sl-2")]
        long = swarm.ml("sl-3", model(1), add(1), rounds=9, min_peers=2)
        digests = await asyncio.gather(*(program.run() for program in (*short, long)))
        assert len(set(digests)) == 1
        assert len(long.answers) == 11
        assert [answer.training_over for answer in long.answers] == [False] * 10 + [True]


async def test_a_node_that_is_not_waited_for_any_longer_is_told(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2", "sl-3", quorum_wait_s=0.2) as swarm:
        trains, finished = threading.Event(), threading.Event()

        def stays_away(_number: int) -> None:
            trains.set()
            finished.wait(60)

        away = swarm.ml("sl-3", model(1), add(1), rounds=9, min_peers=2, between=stays_away)
        short = [
            swarm.ml(name, model(1), add(1), rounds=1, min_peers=2, between=lambda _: trains.wait(60))
            for name in ("sl-1", "sl-2")
        ]
        running = asyncio.create_task(away.run())
        await asyncio.gather(*(program.run() for program in short))
        finished.set()
        assert await running == swarm.view.last_result.digest.hex()
        assert away.answers[-1].training_over
        assert away.answers[-1].note.startswith("all others had finished (sl-1, sl-2)")


async def test_a_node_says_since_when_all_others_wait_for_its_program(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    said: asyncio.Queue[int] = asyncio.Queue()

    class Log:
        def __getattr__(self, name: str) -> Any:
            return getattr(logs.get("round"), name)

        def warning(self, event: str, **facts: Any) -> None:
            if event == "all others wait for the ML program of this node":
                said.put_nowait(facts["round"])

    monkeypatch.setattr(runner, "AWAITED_AGAIN_S", 0.05)
    monkeypatch.setattr(runner, "_log", Log())
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        quick = swarm.ml("sl-1", model(1), add(1), rounds=2, min_peers=2)
        stuck = swarm.ml("sl-2", model(1), add(1), rounds=2, min_peers=2, between=lambda _: goes_on.wait(60))
        running = [asyncio.create_task(program.run()) for program in (quick, stuck)]
        async with asyncio.timeout(60):
            assert [await said.get(), await said.get()] == [2, 2]
        goes_on.set()
        await asyncio.gather(*running)


@pytest.mark.parametrize("mode", ["snapshot", "active", "inactive"])
async def test_what_was_trained_since_the_last_merge_counts_in_every_mode(pki: Any, tmp_path: Path, mode: str) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        programs = [swarm.ml(name, model(1), add(1), rounds=0, min_peers=2, checkin=mode) for name in ("sl-1", "sl-2")]
        await asyncio.gather(*(program.run() for program in programs))
        assert all(answer.contributed for program in programs for answer in program.answers)
        for program in programs:
            np.testing.assert_array_equal(program.final["w"], model(1)["w"] + np.float32(1))


async def test_a_node_with_nan_is_left_out_with_the_reason_on_the_chain_and_goes_on(pki: Any, tmp_path: Path) -> None:
    def spoil(arrays: Arrays, number: int) -> Arrays:
        return {**arrays, "w": arrays["w"] * np.float32(np.nan if number == 0 else 1)}

    async with swarm_of(pki, tmp_path, "sl-1", "sl-2", "sl-3") as swarm:
        healthy = [swarm.ml(name, model(1), add(1), min_peers=2) for name in ("sl-1", "sl-2")]
        spoiled = swarm.ml("sl-3", model(1), spoil, min_peers=2)
        digests = await asyncio.gather(spoiled.run(), *(program.run() for program in healthy))
        assert len(set(digests)) == 1
        assert [answer.contributed for answer in spoiled.answers] == [True, False, True, True]
        assert spoiled.answers[1].note == "left out of round 2: non-finite values in tensor w"
        left_out = [event for event in await swarm.events() if type(event).__name__ == "LeftOut"]
        assert [(event.round, event.name, event.reason, event.not_finite) for event in left_out] == [
            (2, "sl-3", "non-finite values in tensor w", True)
        ]


async def test_large_models_go_through_in_segments(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        large = {"w": np.arange(3_000_000, dtype=np.float32)}
        programs = [swarm.ml(name, large, add(i), rounds=1, min_peers=2) for i, name in enumerate(["sl-1", "sl-2"])]
        digests = await asyncio.gather(*(program.run() for program in programs))
        assert len(set(digests)) == 1
