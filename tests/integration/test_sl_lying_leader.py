"""A leader that publishes another result than was made, and a participant that says what drags the model away."""

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import ML, Arrays, swarm_of
from test_sl_liars import NAMES, SAID, Log

from services.sl.round import actions as do
from services.sl.round.runner import Runner
from services.sl.transfer.store import Store, Stored
from services.sl.view import Model
from swarm_callback.digest import SEGMENT_BYTES, combine

SMALL, SHARED = 1000, 1_500_000


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> Log:
    return Log(capfd)


def model(seed: int, elements: int) -> Arrays:
    return {"w": np.random.default_rng(seed).standard_normal(elements).astype(np.float32)}


def forged(store: Store, digest: str) -> Model:
    """In the same store, the stream of that digest with one value a little different."""
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
    honest, lied = Runner._perform, []

    def perform(runner: Runner, action: do.Action) -> None:
        if isinstance(action, do.Publish) and not lied:
            made = forged(runner._store, action.model.digest)
            lied.append((action.model.digest, made.digest))
            action = replace(action, model=made)
        honest(runner, action)

    monkeypatch.setattr(Runner, "_perform", perform)
    async with swarm_of(pki, tmp_path, *NAMES, **SAID) as swarm:
        programs = [
            swarm.ml(name, model(number, elements), lambda arrays, _: arrays, rounds=0, min_peers=4)
            for number, name in enumerate(NAMES)
        ]
        ended = await asyncio.gather(*(program.run() for program in programs))
        assert len(set(ended)) == 1
        first = next(event for event in await swarm.events() if type(event).__name__ == "RoundAccepted")
    ((made, published),) = lied
    assert first.digest.hex() == published
    said = [line for line in log.lines if line["event"].startswith(words)]
    assert said
    for line in said:
        assert (line["level"], line["leader"], line["accepted"]) == (level, first.leader, published)
        assert line.get("made", line.get("copy")) == made


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
