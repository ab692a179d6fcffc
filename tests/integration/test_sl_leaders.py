"""Slow leaders, and leaders that wait for a peer that is stuck."""

import asyncio
import threading
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from sl_swarm import WITHIN_S, Arrays, Swarm, swarm_of

from services.sl.transfer import file_server

NAMES = ("sl-1", "sl-2", "sl-3")
MEGABYTE = 1_000_000
PIECE_BYTES = 64 * 1024


def model(value: float, elements: int = 12) -> Arrays:
    return {"w": np.full(elements, value, np.float32)}


def add(amount: float) -> Any:
    """Each node trains something different, or nobody would have to fetch it."""
    return lambda arrays, _number: {"w": arrays["w"] + np.float32(amount)}


async def kinds_of(swarm: Swarm) -> list[str]:
    return [type(event).__name__ for event in await swarm.events()]


def slowly(monkeypatch: pytest.MonkeyPatch, bytes_a_second: float) -> None:
    """Lets every file server send each stream at this rate."""
    read = file_server._read

    def slow(file: BinaryIO, start: int, stop: int) -> bytes:
        threading.Event().wait((stop - start) / bytes_a_second)
        return read(file, start, stop)

    monkeypatch.setattr(file_server, "PIECE_BYTES", PIECE_BYTES)
    monkeypatch.setattr(file_server, "_read", slow)


async def test_a_leader_that_moves_at_a_megabyte_a_second_is_never_voted_out(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collecting takes three times as long as a leader may be silent."""
    slowly(monkeypatch, MEGABYTE)
    large = 3 * MEGABYTE // 4
    async with swarm_of(pki, tmp_path, *NAMES, leader_timeout_s=1.0) as swarm:
        programs = [swarm.ml(name, model(i, large), add(i), rounds=0) for i, name in enumerate(NAMES)]
        digests = await asyncio.gather(*(program.run() for program in programs))
        assert set(digests) == {swarm.view.last_result.digest.hex()}
        kinds = await kinds_of(swarm)
        assert "LeaderVotedOut" not in kinds
        assert "LeftOut" not in kinds
        assert kinds.count("RoundAccepted") == 2


async def test_a_peer_that_stalls_is_left_out_before_its_leader_is_voted_out(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalls, goes_on = threading.Event(), threading.Event()
    read = file_server._read

    def stall(file: BinaryIO, start: int, stop: int) -> bytes:
        if "/sl-3/" in file.name and stalls.is_set():
            goes_on.wait(WITHIN_S)
        return read(file, start, stop)

    monkeypatch.setattr(file_server, "PIECE_BYTES", PIECE_BYTES)
    monkeypatch.setattr(file_server, "_read", stall)
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2", leader_timeout_s=6.0) as swarm:
        await swarm.sl("sl-3", leader_timeout_s=6.0, may_lead=False)
        large = MEGABYTE // 4
        healthy = [swarm.ml(name, model(i, large), add(i), rounds=1, min_peers=2) for i, name in enumerate(NAMES[:2])]
        stalling = swarm.ml("sl-3", model(3, large), add(3), rounds=1, min_peers=2, between=lambda _: stalls.set())
        runs = [asyncio.create_task(program.run()) for program in (*healthy, stalling)]
        await swarm.until(lambda view: view.last_result is not None and view.last_result.round >= 2)
        goes_on.set()
        assert len(set(await asyncio.gather(*runs))) == 1
        left_out = [event for event in await swarm.events() if type(event).__name__ == "LeftOut"]
        assert [(event.round, event.name) for event in left_out] == [(2, "sl-3")]
        assert "its parameters could not be fetched" in left_out[0].reason
        assert "LeaderVotedOut" not in await kinds_of(swarm)
        assert "left out of round 2" in stalling.answers[1].note
