"""Rounds as SLs see them: through the API, under mutual TLS, on the embedded chain and on geth."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from sn_swarm import config, play_round, running_sn, scripted_sl

from services.chain.factory import Choice
from services.rpc import swarm_pb2 as pb


@pytest.mark.parametrize("chain", ["embedded", "geth"])
async def test_three_sls_agree_round_after_round_until_complete(pki: Any, tmp_path: Path, chain: Choice) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sn = await stack.enter_async_context(running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn", chain=chain))
        sls = [
            await stack.enter_async_context(scripted_sl(pki.identity("sl", f"sl-{index}"), sn.port))
            for index in range(3)
        ]
        for sl in sls:
            status = await sl.enrol(config(min_peers=3))
            assert sl.name in [who.name for who in status.participants if who.active]
        for round_number in (1, 2, 3):
            await play_round(sls, round_number)
        final = await play_round(sls, 4, finished=True)
        for sl in sls:
            done = await sl.until(lambda status: status.state == pb.COMPLETE)
            assert (done.last_result.digest, done.round) == (final, 4)
            assert sorted(done.last_result.merged) == ["sl-0", "sl-1", "sl-2"]
            assert not any(seen.state == pb.CHECKIN and seen.round == 5 for seen in sl.seen)
