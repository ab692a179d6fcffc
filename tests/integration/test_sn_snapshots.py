"""A restarted SN goes on from its last snapshot of a training, on every chain."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sn_swarm import running_sn

from benchmarks.histories import enrol, names_of, write_rounds
from services.chain.factory import open_chain
from services.chain.geth import GethChain
from services.chain.training import TrainingGateway
from services.sn import fetching, live
from services.sn.directory import DEFAULT_TRAINING
from services.sn.joining import join
from services.sn.newcomer import EarlyHistory, take_chain
from services.sn.node import RunningSN
from services.sn.snapshots import DIRECTORY, Snapshots
from services.sn.state import SNState
from services.sn.training import TrainingView

NAMES = names_of(3)
SN = "sn-1"
WITHIN_S = 30.0


def view_of(sn: RunningSN) -> TrainingView:
    return sn.trainings.named(DEFAULT_TRAINING).view


def told(view: TrainingView) -> dict[str, Any]:
    """All parts of the view that come from the chain."""
    return {name: value for name, value in vars(view).items() if name not in ("ticks", "progress")}


@pytest.fixture
def read_from(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The block from which each start read the history of a training."""
    blocks: list[int] = []
    history = TrainingGateway.history

    def noted(self: TrainingGateway, from_block: int = 0, to_block: int | None = None, **how: bool) -> Any:
        blocks.append(from_block)
        return history(self, from_block, to_block, **how)

    monkeypatch.setattr(TrainingGateway, "history", noted)
    return blocks


async def trained(sn: RunningSN, rounds: range, *, left: str = "") -> None:
    training = sn.trainings.named(DEFAULT_TRAINING)
    if rounds.start == 1:
        await enrol(training.gateway, NAMES)
    await write_rounds(training.gateway, NAMES, rounds, on_their_way=6)
    if left:
        await training.gateway.report(rounds[-1], NAMES[1], float("nan"), None, 1, 9)
        receipt = await training.gateway.leave(left, "tired")
        await training.status_at(receipt.block)


@pytest.mark.parametrize("chain", [pytest.param("geth", marks=pytest.mark.needs("geth")), "embedded"])
async def test_a_restart_reads_what_has_happened_since_the_snapshot(
    pki: Any, tmp_path: Path, chain: Any, read_from: list[int]
) -> None:
    identity = pki.identity("sn", SN)
    async with running_sn(identity, tmp_path, chain=chain) as sn:
        await trained(sn, range(1, 9), left=NAMES[2])
        before = told(view_of(sn))
    read_from.clear()
    async with running_sn(identity, tmp_path, chain=chain) as sn:
        assert repr(told(view_of(sn))) == repr(before)
        assert read_from == [before["position"].block]
        training = sn.trainings.named(DEFAULT_TRAINING)
        receipt = await training.gateway.leave(NAMES[1], "tired too")  # it is followed as before
        status = await training.status_at(receipt.block)
        assert [who.name for who in status.participants if who.active] == NAMES[:1]


@pytest.mark.needs("geth")
@pytest.mark.parametrize("replaced", [False, True])
async def test_what_was_read_while_the_chain_came_counts_where_its_blocks_stayed(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_from: list[int], *, replaced: bool
) -> None:
    identity = pki.identity("sn", SN)
    async with running_sn(identity, tmp_path, chain="geth") as sn:
        await trained(sn, range(1, 9), left=NAMES[2])
        before, network = told(view_of(sn)), sn.trainings.network.address
    (path,) = (tmp_path / DIRECTORY).iterdir()
    path.unlink()
    async with await open_chain("geth", tmp_path) as chain:
        assert chain.federation is not None
        early = EarlyHistory(chain, network, Snapshots(tmp_path, chain), before["position"].block)
        early.more()
        early.more()
        if replaced:
            hashes = iter(["one", "another"])

            async def block_hash(_chain: GethChain, _number: int) -> str:
                return next(hashes)

            monkeypatch.setattr(GethChain, "block_hash", block_hash)
        await early.follow(chain.federation)
    monkeypatch.undo()
    assert path.exists() is not replaced


@pytest.mark.needs("geth")
async def test_a_newcomer_reads_the_history_while_the_chain_comes(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PAGE_BYTES", 2_000)
    identity, directory = pki.identity("sn", "sn-2"), tmp_path / "newcomer"
    async with running_sn(pki.identity("sn", SN), tmp_path / SN, chain="geth") as sn:
        await trained(sn, range(1, 9), left=NAMES[2])
        through = f"127.0.0.1:{sn.port}"
        directory.mkdir()
        joined = await join(identity, through, directory)
        async with await open_chain("geth", directory, genesis=joined.genesis, has_others=True) as chain:
            await take_chain(
                identity, chain, directory, SNState("geth", joined.network, joined_at=joined.block), through
            )

            view = await Snapshots(directory, chain).load(DEFAULT_TRAINING, view_of(sn).location)
            assert view is not None and view.position.block > joined.block // 2
            rest = TrainingGateway.at(chain, view.location).history(view.position.block, settled=False)
            async for page in rest:
                for event in page:
                    view.apply(event)
            assert repr(told(view)) == repr(told(view_of(sn)))


async def test_a_snapshot_is_written_while_the_training_goes_on(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_from: list[int]
) -> None:
    """So that a killed node need not read the whole history again."""
    monkeypatch.setattr(live, "EVERY_EVENTS", 20)
    written, save = asyncio.Event(), Snapshots.save

    async def noted(self: Snapshots, view: TrainingView) -> None:
        await save(self, view)
        written.set()

    monkeypatch.setattr(Snapshots, "save", noted)
    async with running_sn(pki.identity("sn", SN), tmp_path) as sn, asyncio.timeout(WITHIN_S):
        await trained(sn, range(1, 9))
        await written.wait()
        (path,) = (tmp_path / DIRECTORY).glob("*.json")
        assert json.loads(path.read_text())["view"]["events"] >= 20


@pytest.mark.parametrize(
    "spoiled",
    [
        "", "{", "[]", '{"version": 1}', '{"version": 99, "view": {}}', '{"version": 1, "view": {"participants": 3}}',
        "another block", "another training",
    ],
)  # fmt: skip
async def test_a_snapshot_that_is_not_of_this_chain_is_not_used(
    pki: Any, tmp_path: Path, spoiled: str, read_from: list[int]
) -> None:
    identity = pki.identity("sn", SN)
    async with running_sn(identity, tmp_path) as sn:
        await trained(sn, range(1, 3))
        before = told(view_of(sn))
    (path,) = (tmp_path / DIRECTORY).iterdir()
    found = json.loads(path.read_text())
    found["view"]["round"] = 77
    if spoiled == "another block":
        spoiled = json.dumps(found | {"block_hash": "0x" + "00" * 32})
    if spoiled == "another training":
        spoiled = json.dumps(found | {"view": found["view"] | {"location": "0x" + "00" * 20}})
    path.write_text(spoiled)
    read_from.clear()
    async with running_sn(identity, tmp_path) as sn:
        assert repr(told(view_of(sn))) == repr(before)
        assert read_from[0] == 0
