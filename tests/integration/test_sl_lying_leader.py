"""A leader that publishes a false result, and a participant whose parameters drag the model away."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import ML, Arrays, swarm_of
from test_sl_liars import NAMES, SAID, Log

from services.rpc.swarm_pb2 import ResultCopy
from services.sl.round import actions as do
from services.sl.round.runner import Runner
from services.sl.round.tasks import RoundTasks
from services.sl.transfer.replication import ResultReplicator, UnpublishedResult
from services.sl.transfer.store import Store, Stored
from services.sl.view import Exclusion, Model
from swarm_callback.digest import SEGMENT_BYTES, combine

SMALL, SHARED = 1000, 1_500_000


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> Log:
    return Log(capfd)


def model(seed: int, elements: int) -> Arrays:
    return {"w": np.random.default_rng(seed).standard_normal(elements).astype(np.float32)}


def forged(store: Store, digest: str) -> Model:
    """Adds to the store the stream of this digest with one value slightly changed."""
    stored = store.get(digest)
    assert stored is not None
    data = bytearray(stored.path.read_bytes())
    data[-4] ^= 1
    body = data[stored.header_size :]
    hashes = [hashlib.sha256(body[at : at + SEGMENT_BYTES]).digest() for at in range(0, len(body), SEGMENT_BYTES)]
    found = combine(bytes.fromhex(stored.model.layout), hashes).hex()
    path = stored.path.with_name(f"{found}.safetensors")
    path.write_bytes(data)
    made = Model(found, len(data), stored.model.layout)
    store._index[found] = Stored(made, path, stored.header_size, tuple(hashes))
    return made


@pytest.mark.parametrize(
    ("elements", "level", "words"),
    [
        (SMALL, "warning", "the accepted result differs from the copy that its leader gave to this node"),
        (SHARED, "error", "the accepted result differs from what its mergers made from the same contributions"),
    ],
)
async def test_another_result_than_was_made_stands_and_is_said_loudly(  # noqa: PLR0917
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log, elements: int, level: str, words: str
) -> None:
    lied: list[tuple[str, Model]] = []
    publishes, gives, serves = Runner._perform, ResultReplicator.replicate, RoundTasks.results

    async def replicate(copies: ResultReplicator, result: UnpublishedResult) -> ResultCopy | None:
        copy = await gives(copies, result)
        if lied:
            return copy
        # It may lack parts of a shared merge still.
        await copies._peers.fetch(result.model.digest, result.model.size, lambda: result.holders(result.merging))
        made = forged(copies._peers._store, result.model.digest)
        lied.append((result.model.digest, made))
        return await gives(copies, replace(result, model=made))  # no SN accepts a result without a second copy

    def perform(runner: Runner, action: do.Action) -> None:
        if isinstance(action, do.Publish) and action.round == 1:
            action = replace(action, model=lied[0][1])
        publishes(runner, action)

    def results(work: RoundTasks) -> frozenset[str]:
        assert serves.fget is not None
        return serves.fget(work) | {made.digest for _, made in lied}

    monkeypatch.setattr(ResultReplicator, "replicate", replicate)
    monkeypatch.setattr(Runner, "_perform", perform)
    monkeypatch.setattr(RoundTasks, "results", property(results))
    async with swarm_of(pki, tmp_path, *NAMES, **SAID) as swarm:
        programs = [
            swarm.ml(name, model(number, elements), lambda arrays, _: arrays, rounds=0, min_peers=4)
            for number, name in enumerate(NAMES)
        ]
        ended = await asyncio.gather(*(program.run() for program in programs))
        assert len(set(ended)) == 1
        first = next(event for event in await swarm.events() if type(event).__name__ == "RoundAccepted")
    ((made, forgery),) = lied
    published = forgery.digest
    assert first.digest.hex() == published
    said = [line for line in log.lines if line["event"].startswith(words)]
    assert said
    for line in said:
        assert (line["level"], line["leader"], line["accepted"]) == (level, first.leader, published)
        assert line.get("made", line.get("copy")) == made


def nowhere(_store: Store, made: Model) -> Model:
    return replace(made, digest="ab" * 32)


def of_another_layout(store: Store, made: Model) -> Model:
    """The same values in a tensor of another name, with which no node could go on."""
    stored = store.get(made.digest)
    assert stored is not None
    data = stored.path.read_bytes().replace(b'"w"', b'"v"', 1)
    with store.incoming("the liar", len(data)) as incoming:
        incoming.write(data)
        return incoming.commit().model


@pytest.mark.parametrize("lie", [nowhere, of_another_layout])
async def test_a_leader_that_publishes_what_nobody_can_take_ends_nobody(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: Callable[[Store, Model], Model]
) -> None:
    honest, lied, told = Runner._perform, [], []

    def perform(runner: Runner, action: do.Action) -> None:
        if isinstance(action, do.Publish) and not lied:
            action = replace(action, model=lie(runner._store, action.model))
            lied.append((runner._name, action.round, action.term))
            told.append(action.model.digest)
            runner._enrolled.work._made = action.model.digest  # so that it serves this stream, if it has it
        honest(runner, action)

    monkeypatch.setattr(Runner, "_perform", perform)
    names = NAMES[:3]
    async with swarm_of(pki, tmp_path, *names, leader_timeout_s=1.0, sn_patience_s=10.0) as swarm:
        programs = [
            swarm.ml(name, model(number, SMALL), lambda arrays, _: arrays, rounds=1)
            for number, name in enumerate(names)
        ]
        assert len(set(await asyncio.gather(*(program.run() for program in programs)))) == 1
        events = await swarm.events()
    deposed = [(event.leader, event.round, event.term) for event in events if type(event).__name__ == "LeaderDeposed"]
    assert lied[0] in deposed
    accepted = [event.digest.hex() for event in events if type(event).__name__ == "RoundAccepted"]
    assert len(accepted) == 3 and not set(accepted) & set(told)


@pytest.mark.parametrize("method", ["mean", "coordmedian"])
async def test_one_participant_drags_a_mean_away_and_no_robust_merge(pki: Any, tmp_path: Path, method: str) -> None:
    async with swarm_of(pki, tmp_path, *NAMES) as swarm:
        programs: list[ML] = []
        for number, name in enumerate(NAMES):
            values = np.full(SMALL, 1e30 if name == "sl-4" else number, np.float32)
            options: dict[str, Any] = {"rounds": 0, "min_peers": 4, "merge_method": method}
            programs.append(swarm.ml(name, {"w": values}, lambda arrays, _: arrays, **options))
        assert len(set(await asyncio.gather(*(program.run() for program in programs)))) == 1
    first = programs[0].seen[0]["w"]
    assert (np.abs(first) <= 2).all() == (method != "mean")


async def test_a_leader_that_leaves_all_others_out_of_the_first_round_ends_nobody(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, lied = Runner._perform, []

    def perform(runner: Runner, action: do.Action) -> None:
        if isinstance(action, do.Publish) and not lied:
            others = [name for name in names if name != runner._name]
            lied.extend(others)
            action = do.Reopen(action.round, action.term, tuple(Exclusion(name, "it is unusable") for name in others))
        honest(runner, action)

    monkeypatch.setattr(Runner, "_perform", perform)
    names = NAMES[:3]
    async with swarm_of(pki, tmp_path, *names) as swarm:
        programs = [
            swarm.ml(name, model(number, SMALL), lambda arrays, _: arrays, rounds=1, min_peers=3)
            for number, name in enumerate(names)
        ]
        assert len(set(await asyncio.gather(*(program.run() for program in programs)))) == 1
        events = await swarm.events()
    assert sorted(event.name for event in events if type(event).__name__ == "LeftOut") == sorted(lied)
    assert all(answer.contributed for program in programs for answer in program.answers)
