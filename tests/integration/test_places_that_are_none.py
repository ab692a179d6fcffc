"""A member that announces an impossible host name cannot be reached; nothing else happens."""

from pathlib import Path
from typing import Any

import pytest

from services.errors import PeerUnreachable, SNUnreachable
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sl.transfer.peers import Peers
from services.sl.transfer.store import Store
from services.sl.view import TrainingMember

HOSTS = ["a..b", "a" * 64, "[", "a@b", "%", "x y"]


@pytest.mark.parametrize("host", HOSTS)
async def test_an_sl_there_cannot_be_reached(pki: Any, tmp_path: Path, host: str) -> None:
    there = TrainingMember("sl-2", host, 1, "", active=True)
    async with Peers(pki.identity("sl", "sl-1"), Store(tmp_path)) as peers:
        with pytest.raises(PeerUnreachable, match="sl-2"):
            async with peers.line_to(there):
                pass
        with pytest.raises(PeerUnreachable, match="sl-2"):
            await peers.give_copy(there, "ab" * 32, lambda: None)
        for size in (1000, 10_000_000):
            with pytest.raises(PeerUnreachable, match="sl-2") as unreachable:
                await peers.fetch("ab" * 32, size, lambda: [there])
            assert "cannot be read" not in str(unreachable.value)


@pytest.mark.parametrize("host", HOSTS)
async def test_an_sn_there_cannot_be_reached(pki: Any, host: str) -> None:
    async with SNClient(f"{host}:1", pki.identity("sn", "sn-1"), "sn-2") as client:
        with pytest.raises(SNUnreachable):
            await client.network.GetInfo(pb.GetInfoRequest())
