"""Every chain reads a history that is too long for one answer in pages, and delays nobody."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sn_swarm import running_sn
from training_reader import TrainingReader

from benchmarks.histories import enrol, names_of, write_rounds
from services.chain import factory
from services.chain.backend import ChainBackend
from services.chain.embedded import EmbeddedChain
from services.chain.geth import GethChain
from services.chain.network import NetworkGateway
from services.chain.paging import PageSize
from services.chain.training import TrainingGateway
from services.errors import ChainError
from services.rpc.client import SNClient
from services.sn import record
from services.sn.directory import DEFAULT_TRAINING, establish

NAMES = names_of(3)
WITHIN_S = 60.0

# In geth's answer a round of three takes about 8,000 bytes; below, one block has up to two rounds.
SMALL = PageSize(wanted_bytes=12_000, most_bytes=24_000, most_blocks=16)
ROUNDS = range(1, 25)
EVENTS = 8 * len(ROUNDS) + 5  # and the configuration, three enrolments, the layout


def small_geth(data_dir: Path) -> ChainBackend:
    return GethChain(data_dir, pages=SMALL)


def small_embedded(data_dir: Path) -> ChainBackend:
    return EmbeddedChain(data_dir, page_events=20)


async def default_training(chain: ChainBackend, data_dir: Path) -> TrainingGateway:
    location = await (await establish(chain, data_dir, "sn-1")).contract_named(DEFAULT_TRAINING)
    assert location is not None
    return TrainingGateway.at(chain, location)


async def long_training(chain: ChainBackend, data_dir: Path, rounds: range = ROUNDS) -> TrainingGateway:
    training = await default_training(chain, data_dir)
    await enrol(training, NAMES)
    await write_rounds(training, NAMES, rounds, on_their_way=6)
    return training


@pytest.fixture(params=[pytest.param(small_geth, marks=pytest.mark.needs("geth")), small_embedded])
async def chain(request: Any, tmp_path: Path) -> AsyncIterator[ChainBackend]:
    opened = request.param(tmp_path)
    await opened.start()
    yield opened
    await opened.close()


async def test_pages_are_small_and_come_to_the_whole_history(chain: ChainBackend, tmp_path: Path) -> None:
    training = await long_training(chain, tmp_path)
    newest = await chain.block_number()

    pages = [page async for page in training.history()]

    events = [event for page in pages for event in page]
    assert len(events) == EVENTS
    assert [event.position for event in events] == sorted({event.position for event in events})
    assert all(pages) and max(map(len, pages)) <= 30
    middle = newest // 2
    early = [event async for page in training.history(to_block=middle) for event in page]
    late = [event async for page in training.history(middle + 1) for event in page]
    assert early and late and early + late == events
    assert [page async for page in training.history(newest + 1)] == []
    assert await training.events() == events


async def test_others_go_on_while_a_history_is_read(chain: ChainBackend, tmp_path: Path) -> None:
    training = await long_training(chain, tmp_path)
    reading = training.history()
    await anext(reading)

    await training.report(ROUNDS[-1], NAMES[0], 0.5, 0.5, 1, 1)  # a later block, which this reading does not have

    rest = [event async for page in reading for event in page]
    assert max(event.position for event in rest) < (await training.events())[-1].position


@pytest.mark.needs("geth")
async def test_one_block_of_more_than_geth_may_answer_is_named(tmp_path: Path) -> None:
    async with GethChain(tmp_path, pages=PageSize(wanted_bytes=100, most_bytes=1_000, most_blocks=4)) as chain:
        await chain.start()
        training = await TrainingReader.deploy(chain, (await NetworkGateway.deploy(chain)).address)
        await enrol(training, NAMES)
        with pytest.raises(ChainError, match=r"the events of block \d+ are more than 1000 bytes"):
            await training.events()
        assert len(await training.participants()) == 3  # the connection is what it was


@pytest.mark.needs("geth")
async def test_an_sn_starts_and_shows_its_record_though_one_answer_could_not_hold_it(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole restart and an audit, with limits far below the size of the history."""
    monkeypatch.setattr(factory, "_geth", lambda data_dir, *_: small_geth(data_dir))
    monkeypatch.setattr(record, "PAGE_BYTES", 2_000)
    rounds = range(1, 151)
    async with await factory.open_chain("geth", tmp_path / "sn") as chain:
        training = await long_training(chain, tmp_path / "sn", rounds)
        by_chain = [event.position for event in await training.events()]
    assert len(by_chain) * 1_000 > 20 * SMALL.most_bytes
    async with running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn", chain="geth") as sn:
        view = sn.trainings.named(DEFAULT_TRAINING).view
        assert (view.round, view.events) == (rounds.stop, len(by_chain))
        async with SNClient(f"localhost:{sn.port}", pki.identity("admin", "admin")) as client:
            pages = [page async for page in client.record(DEFAULT_TRAINING)]
    assert [(event.block, event.log_index) for page in pages for event in page.events] == by_chain
    assert max(page.ByteSize() for page in pages) < 3_000
    assert len({page.block for page in pages}) == 1
