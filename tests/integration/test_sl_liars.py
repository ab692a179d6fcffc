"""A participant of a shared merge that sends false or meaningless messages harms nobody else."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from sl_swarm import ML, Arrays, Swarm, swarm_of

from services.sl.sharding import messages as say
from services.sl.sharding.follower import ShardFollower
from services.sl.sharding.leader import MergerLine
from services.sl.view import View

NAMES = ("sl-1", "sl-2", "sl-3", "sl-4")

SAID: dict[str, Any] = {"leader_timeout_s": 9.0, "log_level": "WARNING", "log_format": "json"}

# What a liar sends instead of one of its messages: texts, and None to hang up.
Lies = Callable[[View, say.ShardMessage], Sequence[str | None]]


def model(seed: int) -> Arrays:
    """A model of 6 MB: large enough for a shared merge."""
    return {"w": np.random.default_rng(seed).standard_normal(1_500_000).astype(np.float32)}


def trained(arrays: dict[str, Any], number: int) -> Arrays:
    return {name: values + np.float32(0.01 * (number + 1)) for name, values in arrays.items()}


class Log:
    """What all nodes have logged so far."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self._lines: list[dict[str, Any]] = []

    @property
    def lines(self) -> list[dict[str, Any]]:
        text = self._capfd.readouterr().out
        self._lines += [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return self._lines

    def lost(self) -> dict[str, set[str]]:
        """The reasons why mergers lost their shares, by name."""
        found: dict[str, set[str]] = {}
        for line in self.lines:
            if line["event"] == "merger lost":
                found.setdefault(line["merger"], set()).add(line["why"])
        return found

    def errors(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["level"] == "error"]


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> Log:
    return Log(capfd)


class Liar:
    """A follower whose messages ``lies`` replaces: ``name``, or in each merge the first that speaks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lies: Lies, name: str = "") -> None:
        self.lies = lies
        self.name = name
        self.told: list[str] = []
        self.merges: dict[tuple[int, int], str] = {}
        honest = ShardFollower._answer

        async def answer(
            following: ShardFollower, answers: "asyncio.Queue[say.ShardMessage]", line: web.WebSocketResponse
        ) -> None:
            view = following._view()
            liar = self.name or self.merges.setdefault((view.round, view.term), following._place.name)
            if liar != following._place.name:
                await honest(following, answers, line)
                return
            with suppress(ConnectionError):
                while True:
                    for text in self.lies(view, await answers.get()):
                        if text is None:
                            await line.close()
                            return
                        await line.send_str(text)

        monkeypatch.setattr(ShardFollower, "_answer", answer)

    def instead(self, message: say.ShardMessage) -> str:
        self.told.append(say.encode(message))
        return self.told[-1]


async def train(swarm: Swarm, rounds: int = 1, method: str = "mean") -> dict[str, ML]:
    """Runs all programs to their ends: all end with the same model, and none was left out of any round."""
    programs = {
        name: swarm.ml(name, model(number), trained, rounds=rounds, min_peers=2, merge_method=method)
        for number, name in enumerate(NAMES)
    }
    ended = await asyncio.gather(*(program.run() for program in programs.values()), return_exceptions=True)
    assert set(ended) == {swarm.view.last_result.digest.hex()}, ended
    events = [type(event).__name__ for event in await swarm.events()]
    assert "LeftOut" not in events
    assert "LeaderDeposed" not in events
    assert all(answer.contributed for program in programs.values() for answer in program.answers)
    return programs


# --- no lie at all ---------------------------------------------------------------------------------------------


async def test_a_line_that_breaks_before_the_word_of_what_was_served_costs_nobody_anything(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader already has the segments, and does not make them again."""

    def hangs_up(_view: View, message: say.ShardMessage) -> Sequence[str | None]:
        if isinstance(message, say.MergedSegments) and not liar.told:
            liar.told.append("hung up")
            return [None]
        return [say.encode(message)]

    liar = Liar(monkeypatch, hangs_up)
    async with swarm_of(pki, tmp_path, *NAMES, leader_timeout_s=9.0) as swarm:
        await train(swarm)
    assert liar.told


async def test_a_merger_that_serves_and_never_says_so_does_not_hold_up_the_merge(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_view: View, message: say.ShardMessage) -> Sequence[str]:
        return [liar.instead(say.Moves(1, True)) if isinstance(message, say.MergedSegments) else say.encode(message)]

    liar = Liar(monkeypatch, silent, "sl-2")
    async with swarm_of(pki, tmp_path, *NAMES, leader_timeout_s=9.0) as swarm:
        await train(swarm)
    assert liar.told


# --- accusations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["mean", "geomedian"])
async def test_who_accuses_all_others_loses_its_share_and_nobody_is_left_out(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log, method: str
) -> None:
    def accuses(_view: View, message: say.ShardMessage) -> Sequence[str]:
        if not isinstance(message, say.MergedSegments | say.Measured):
            return [say.encode(message)]
        victims = [name for name in NAMES if name != liar.name]
        return [liar.instead(say.FoundNonFinite(message.attempt, victim, message.start)) for victim in victims]

    liar = Liar(monkeypatch, accuses, "sl-2")
    async with swarm_of(pki, tmp_path, *NAMES, **SAID) as swarm:
        await train(swarm, method=method)
    assert liar.told
    assert log.lost().keys() == {"sl-2"}
    assert all("are not finite, and they are" in why for why in log.lost()["sl-2"])


async def test_who_alone_cannot_use_what_the_leader_can_loses_its_share(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    def accuses(_view: View, message: say.ShardMessage) -> Sequence[str]:
        if isinstance(message, say.MergedSegments) and len(liar.told) < 2:
            return [liar.instead(say.Unusable("sl-1", "it is cut short", message.start))]
        return [say.encode(message)]

    liar = Liar(monkeypatch, accuses, "sl-2")
    async with swarm_of(pki, tmp_path, *NAMES, **SAID) as swarm:
        await train(swarm)
    assert liar.told
    assert log.lost() == {"sl-2": {"it alone cannot use those of sl-1: it is cut short"}}


async def test_a_hash_of_other_bytes_than_are_served_is_forgotten_with_whoever_told_it(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    def lies(_view: View, message: say.ShardMessage) -> Sequence[str]:
        if isinstance(message, say.MergedSegments):
            return [
                liar.instead(say.MergedSegments(message.attempt, message.start, ("ab" * 32,) * len(message.hashes)))
            ]
        return [say.encode(message)]

    liar = Liar(monkeypatch, lies, "sl-2")
    async with swarm_of(pki, tmp_path, *NAMES, **SAID) as swarm:
        await train(swarm)
    assert liar.told
    assert log.lost() == {"sl-2": {"it serves other bytes than it has merged"}}


# --- odd messages ----------------------------------------------------------------------------------------------

# Messages that may come in any merge, between others.
EXAMPLES: dict[str, say.ShardMessage] = {"Holds": say.Holds(1, (0,)), "Moves": say.Moves(1, False)}

ODD = {
    "MergedSegments": [{"hashes": [5]}, {"hashes": ["00"]}, {"start": 2**70}, {"start": 22}, {"attempt": 9}],
    "Holds": [{"segments": ["x"]}, {"segments": [10**6]}, {"segments": []}],
    "Moves": [{"count": 10**400}, {"count": -1}, {"waits": 1}],
    "Measured": [{"parts": [7]}, {"parts": ["!!!"]}, {"parts": ["AAAA"]}, {"frame": 7}, {"start": 23}],
}


@pytest.mark.parametrize(("kind", "changes"), ODD.items(), ids=ODD)
async def test_what_means_nothing_costs_whoever_says_it_its_line(  # noqa: PLR0917
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log, kind: str, changes: list[Any]
) -> None:
    left, spoilt = list(changes), set()

    def odd(view: View, message: say.ShardMessage) -> Sequence[str]:
        text = say.encode(message)
        model = EXAMPLES.get(kind, message)
        if (
            type(message).__name__ not in (kind, "MergedSegments")
            or type(model).__name__ != kind
            or not left
            or view.round in spoilt
        ):
            return [text]
        spoilt.add(view.round)
        liar.told.append(json.dumps({**json.loads(say.encode(model)), **left.pop()}))
        return [liar.told[-1], text]

    liar = Liar(monkeypatch, odd)
    async with swarm_of(pki, tmp_path, *NAMES, **SAID) as swarm:
        await train(swarm, rounds=len(changes), method="geomedian" if kind == "Measured" else "mean")
    assert not left
    reasons = [why for by in log.lost().values() for why in by]
    assert reasons
    assert all(why.startswith("it sent a message that makes no sense") for why in reasons)
    assert not log.errors()


ORDERS = {
    "Serves": [{"hashes": [5]}, {"start": 23}, {"by": "nobody"}],
    "Deal": [{"runs": [[0, 10**12]]}, {"runs": [[0, 40]]}],
    "AssignedRuns": [{"runs": [[0, 40]]}, {"by": "nobody"}],
    "Settled": [{"shares": ["no number"]}, {"shares": None}, {"shares": ["0x1.0p+0"] * 9}],
    "BeginAttempt": [{"names": ["nobody"]}, {"names": []}],
}


@pytest.mark.parametrize(("kind", "changes"), ORDERS.items(), ids=ORDERS)
async def test_an_order_that_makes_no_sense_ends_the_line_of_the_leader_and_no_node(  # noqa: PLR0917
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log, kind: str, changes: list[Any]
) -> None:
    """One follower gets it, once in a merge, and still gets the result."""
    left, spoilt = list(changes), set()
    async with swarm_of(pki, tmp_path, *NAMES, **SAID) as swarm:

        def odd(message: say.ShardMessage) -> str:
            text = say.encode(message)
            if type(message).__name__ != kind or not left or swarm.view.round in spoilt:
                return text
            spoilt.add(swarm.view.round)
            return json.dumps({**json.loads(text), **left.pop()})

        monkeypatch.setattr("services.sl.sharding.leader.encode", odd)
        await train(swarm, rounds=len(changes), method="geomedian" if kind == "Settled" else "mean")
    assert not left
    assert not log.errors()


async def test_a_flood_of_answers_waits_until_the_leader_has_looked_at_those_before(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    heard = MergerLine.looked_at

    def counted(line: MergerLine) -> None:
        nonlocal most
        most = max(most, line.unheard)
        heard(line)

    def floods(_view: View, message: say.ShardMessage) -> Sequence[str]:
        return [*([liar.instead(say.Moves(1, False))] * (5000 if len(liar.told) < 2 else 0)), say.encode(message)]

    monkeypatch.setattr(MergerLine, "looked_at", counted)
    liar = Liar(monkeypatch, floods)
    async with swarm_of(pki, tmp_path, *NAMES, leader_timeout_s=9.0) as swarm:
        await train(swarm)
    assert 0 < most <= 256
