"""What real nodes agree on by their reports: interval, best model and end; and weights that count examples."""

import asyncio
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import Arrays, same, swarm_of
from structlog.testing import capture_logs

from services.audit.fold import fold
from services.chain import events as on_chain
from services.sn.record import entry

NAMES = ["sl-1", "sl-2", "sl-3"]


def model(value: float) -> Arrays:
    return {"w": np.full(4, value, np.float32)}


async def test_the_interval_follows_the_mean_loss_and_is_the_same_on_every_node(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, *NAMES) as swarm:
        # The mean halves until round 4, then stands still; sl-3 has no loss, and its metric is no number.
        def loss(share: float) -> Any:
            return lambda round_: (2 * share * 0.5 ** min(round_, 4), 0.5)

        programs = [
            swarm.ml(name, model(1), same, rounds=8, opening={"use_adaptive_sync": True}, measured=measured)
            for name, measured in zip(NAMES, (loss(0.25), loss(0.75), lambda _: (None, math.nan)), strict=True)
        ]
        with capture_logs() as log:
            await asyncio.gather(*(program.run() for program in programs))
        events = await swarm.events()
        chosen = [event for event in events if isinstance(event, on_chain.IntervalChosen)]
        by_round = {event.round: event.interval for event in chosen}
        assert [by_round[round_] for round_ in range(1, 7)] == [16, 16, 32, 64, 64, 64]
        assert (by_round[8], by_round[9]) == (64, 32)  # once it is no better than in any of the four rounds before
        assert [event.mean_loss for event in chosen][1:4] == [0.5, 0.25, 0.125]
        for program in programs:
            assert {answer.round: answer.next_sync_interval for answer in program.answers} == by_round
            assert program.answers[2].pace == "a mean loss of 0.25 after 0.5 is more than a hundredth better"
        told = [entry for entry in log if entry["event"] == "merged model" and entry["round"] == 3]
        assert {(entry["next_interval"], entry["why"]) for entry in told} == {(32, programs[0].answers[2].pace)}
        record = fold("demo", [entry(event) for event in events])
        assert record.problems == []
        assert swarm.view.last_result.interval == by_round[10]
        astray = swarm.view.participants["sl-3"]
        assert (astray.loss, math.isnan(astray.metric)) == (None, True)
        assert {(it.loss, str(it.metric)) for it in record.rounds[5].reports if it.name == "sl-3"} == {(None, "nan")}


async def test_a_training_that_gets_no_better_stops_on_every_node_with_one_model(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, *NAMES) as swarm:
        metrics = {1: 0.5, 2: 0.8}
        programs = [
            swarm.ml(name, model(1), same, rounds=30, opening={"patience": 2},
                     measured=lambda round_: (1.0, metrics.get(round_, 0.6)))
            for name in NAMES
        ]  # fmt: skip
        digests = await asyncio.gather(*(program.run() for program in programs))
        assert len(set(digests)) == 1
        assert swarm.view.last_result.round == 5
        assert swarm.view.last_result.stopped_early == 2
        for program in programs:
            last = program.answers[-1]
            assert (last.round, last.training_over, last.best_round) == (5, True, 2)
            assert last.note == "for 2 rounds the mean metric has not been better than in round 2"
        record = fold("demo", [entry(event) for event in await swarm.events()])
        assert record.problems == []


async def test_examples_seen_since_the_last_merge_weigh(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        programs = [
            swarm.ml(name, model(0), lambda arrays, number, to=to: model(to), rounds=1, min_peers=2,
                     opening={"weighting": "samples"}, examples=examples)
            for name, to, examples in (("sl-1", 0.0, 300_000), ("sl-2", 4.0, 100_000))
        ]  # fmt: skip
        await asyncio.gather(*(program.run() for program in programs))
        np.testing.assert_array_equal(programs[0].final["w"], np.full(4, 1, np.float32))


async def test_what_a_slow_node_trains_comes_into_a_later_round(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, *NAMES, quorum_wait_s=0.6) as swarm:
        ahead, caught_up = threading.Event(), threading.Event()
        fast = [
            swarm.ml(name, model(0), same, rounds=6, min_peers=2,
                     between=lambda number: number < 5 or caught_up.wait(30))
            for name in ("sl-1", "sl-2")
        ]  # fmt: skip
        slow = swarm.ml("sl-3", model(0), lambda arrays, number: model(9), rounds=1, min_peers=2,
                        between=lambda _: ahead.wait(30))  # fmt: skip
        running = [asyncio.create_task(slow.run())]
        await swarm.until(lambda view: "sl-3" in view.check_ins)  # or the first round might not wait for it
        running += [asyncio.create_task(program.run()) for program in fast]
        await swarm.until(lambda view: view.last_result is not None and view.last_result.round >= 5)
        ahead.set()
        await swarm.until(lambda view: "sl-3" in view.check_ins)
        caught_up.set()
        digests = await asyncio.gather(*running)
        assert len(set(digests)) == 1
        events = await swarm.events()
        late = next(event for event in events if getattr(event, "staleness", 0) and event.name == "sl-3")
        assert late.staleness >= 3
        answer = slow.answers[1]
        assert (answer.contributed, answer.late, answer.round) == (True, late.staleness, late.round)
        assert answer.next_sync_interval == 16 // (1 + late.staleness)
        share = 1 / (1 + late.staleness)
        # The others that checked in before the quorum clock ran out contribute 0; its 9 counts with that share of a
        # weight of 1.
        check_ins = [event for event in events if isinstance(event, on_chain.CheckedIn) and event.round == late.round]
        others = {event.name for event in check_ins} - {"sl-3"}
        assert slow.seen[1]["w"][0] == pytest.approx(9 * share / (len(others) + share), rel=1e-6)
        assert fold("demo", [entry(event) for event in events]).problems == []
