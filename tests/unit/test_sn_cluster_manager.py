"""What an SN does about another one that is gone."""

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.errors import ChainError, NotAMember
from services.runtime.background import Background
from services.sn.cluster_manager import ClusterManager


class Network:
    """A chain that refuses the first entries with ``refusals``, in order."""

    def __init__(self, refusals: list[Exception]) -> None:
        self._refusals = refusals
        self.marked = asyncio.Event()

    async def mark_member_left(self, role: str, name: str, reason: str) -> None:
        if self._refusals:
            raise self._refusals.pop(0)
        self.marked.set()


def trainings_of(network: Network) -> Any:
    """Two SNs, sn-1 and sn-2, are in the directory."""
    accounts = SimpleNamespace(names={"0x1": "sn-1", "0x2": "sn-2"}, organizations={}, belongs_to=lambda _: None)
    membership = SimpleNamespace(sns=list, expulsions=SimpleNamespace(holds=lambda *_: False))
    return SimpleNamespace(
        network=network, membership=membership, accounts=accounts, live_accounts=["0x1", "0x2"],
        present_sns=["sn-1", "sn-2"], organizations=SimpleNamespace(holds=lambda _: True),
    )  # fmt: skip


async def nothing() -> None:
    pass


@pytest.mark.parametrize(
    "refusal",
    [NotAMember(name="sn-2"), ChainError(detail="geth is away"), RuntimeError("a bug")],
    ids=lambda it: type(it).__name__,
)
async def test_an_sn_that_could_not_be_marked_as_lost_is_marked_later(tmp_path: Path, refusal: Exception) -> None:
    network = Network([refusal])
    trust = SimpleNamespace(expulsions=None)
    identity: Any = SimpleNamespace(name="sn-1", organization="", credentials=SimpleNamespace(trust=trust))
    federation: Any = SimpleNamespace(elect_from=lambda *_: None)
    peering: Any = SimpleNamespace(alive=Counter())
    background: Any = Background("sn")
    background.keep = lambda *_: None  # what it does besides needs a chain
    manager = ClusterManager(
        identity, trainings_of(network), federation, peering, background,
        data_dir=tmp_path, grace_s=0.0, register=nothing,
    )  # fmt: skip
    manager.follow()
    await network.marked.wait()
    manager.stop()
    await background.close()
