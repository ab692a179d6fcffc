"""How a leader merges the contributions in its store."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.rpc.swarm_pb2 import RoundState
from services.sl.round.states import HeldModel
from services.sl.sharding.leader_merge import INLINE_BYTES, LeaderMerge, MergeOutcome
from services.sl.transfer.peers import Peers
from services.sl.transfer.store import Store, Stored
from services.sl.view import CheckInEntry, Config, Exclusion, TrainingMember, View
from swarm_callback.params import RawTensor, Tensor, decode, encode

Model = dict[str, Tensor]


def model(value: float, shape: tuple[int, ...] = (2, 3)) -> Model:
    return {"n": np.array(int(value), np.int64), "w": np.full(shape, value, np.float32)}


class Leader:
    def __init__(self, pki: Any, directory: Path) -> None:
        self.store = Store(directory)
        self.identity = pki.identity("sl", "sl-1")
        self.layout = ""
        self.entries: list[CheckInEntry] = []
        self.gone: set[str] = set()

    def put(self, tensors: Model) -> Stored:
        header, data = encode(tensors)
        with self.store.incoming("sl-1", len(header) + sum(len(piece) for piece in data)) as incoming:
            incoming.write(header)
            for piece in data:
                incoming.write(piece)
            return incoming.commit()

    def check_in(self, name: str, tensors: Model, weight: int = 1) -> Stored:
        stored = self.put(tensors)
        self.layout = self.layout or stored.model.layout
        self.entries.append(CheckInEntry(name, stored.model.digest, stored.model.size, weight, False))
        return stored

    async def merge(self, min_peers: int = 1, held: HeldModel | None = None, first: str = "average") -> MergeOutcome:
        view = View(
            phase=RoundState.MERGE,
            round=1,
            term=1,
            leader="sl-1",
            config=Config(min_peers, 16, "mean", first_merge=first),
            layout=self.layout,
            layout_by="sl-1",
            members=tuple(
                TrainingMember(entry.name, "localhost", 1, "", entry.name not in self.gone) for entry in self.entries
            ),
            check_ins=tuple(self.entries),
            last=None,
        )
        async with Peers(self.identity, self.store) as peers:
            return await LeaderMerge(self.store, peers, view, lambda _done, _total: None).run(held)

    def result(self, outcome: MergeOutcome) -> Any:
        assert outcome.model is not None
        stored = self.store.get(outcome.model.digest)
        assert stored is not None
        return decode(stored.path.read_bytes())


@pytest.fixture
def leader(pki: Any, tmp_path: Path) -> Leader:
    return Leader(pki, tmp_path / "fs")


@pytest.fixture
def waits_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts to fetch."""
    waited: list[float] = []
    sleep = asyncio.sleep  # noqa: TID251 - observed, not used

    async def observed(seconds: float, result: object = None) -> object:
        if seconds:
            waited.append(seconds)
        return await sleep(seconds, result)

    monkeypatch.setattr("services.sl.transfer.peers.asyncio.sleep", observed)
    return waited


@pytest.mark.parametrize("rows", [2, INLINE_BYTES // 8])
async def test_the_result_is_the_weighted_mean_in_the_same_form(leader: Leader, rows: int) -> None:
    leader.check_in("sl-2", model(1, (rows, 3)), weight=3)
    leader.check_in("sl-1", model(5, (rows, 3)), weight=1)
    result = leader.result(await leader.merge())
    np.testing.assert_array_equal(result["w"], np.full((rows, 3), 2, np.float32))
    assert result["n"] == 2


async def test_odd_dtypes_and_unaligned_tensors_are_merged(leader: Leader) -> None:
    def odd(bits: int, flag: bool) -> Model:
        return {
            "a": np.array([flag, flag, flag]),
            "b": RawTensor("BF16", (1,), np.array([bits], np.uint16).tobytes()),
            "c": np.ones((), np.float64),
            "d": np.ones((0, 4), np.float16),
        }

    leader.check_in("sl-1", odd(0x3F80, True))
    leader.check_in("sl-2", odd(0x4040, True))
    result = leader.result(await leader.merge())
    assert bytes(result["b"].data) == np.array([0x4000], np.uint16).tobytes()
    assert result["a"].all()
    assert result["c"] == 1.0
    assert result["d"].shape == (0, 4)


async def test_a_node_with_nan_is_left_out_with_the_tensor_as_reason(leader: Leader) -> None:
    leader.check_in("sl-1", model(1))
    spoiled = model(1)
    spoiled["w"] = np.array([[1, np.nan, 1], [1, 1, 1]], np.float32)
    leader.check_in("sl-2", spoiled)
    leader.check_in("sl-3", model(3))
    outcome = await leader.merge(min_peers=2)
    assert outcome.left_out == (Exclusion("sl-2", "non-finite values in tensor w", not_finite=True),)
    np.testing.assert_array_equal(leader.result(outcome)["w"], model(2)["w"])


async def test_the_first_result_is_the_leaders_own_set(leader: Leader) -> None:
    leader.check_in("sl-2", model(1), weight=3)
    own = leader.check_in("sl-1", model(5), weight=0)
    leader.check_in("sl-3", model(3))
    assert await leader.merge(min_peers=3, first="leader") == MergeOutcome(own.model, ())


async def test_the_first_result_is_the_next_ones_where_the_leaders_own_cannot_be_used(leader: Leader) -> None:
    leader.check_in("sl-1", {"n": np.array(1), "w": np.full((2, 3), np.nan, np.float32)})
    leader.check_in("sl-3", model(3))
    second = leader.check_in("sl-2", model(2))
    reason = (Exclusion("sl-1", "non-finite values in tensor w", not_finite=True),)
    assert await leader.merge(min_peers=2, first="leader") == MergeOutcome(second.model, reason)
    assert await leader.merge(min_peers=3, first="leader") == MergeOutcome(None, reason)


async def test_below_min_peers_there_is_no_result(leader: Leader) -> None:
    before = leader.check_in("sl-1", model(1))
    spoiled = leader.check_in("sl-2", {"n": np.array(1), "w": np.full((2, 3), np.inf, np.float32)})
    outcome = await leader.merge(min_peers=2)
    assert outcome == MergeOutcome(None, (Exclusion("sl-2", "non-finite values in tensor w", not_finite=True),))
    assert {path.stem for path in leader.store.root.iterdir()} == {before.model.digest, spoiled.model.digest}


async def test_a_stream_of_another_layout_is_left_out_with_both_shapes(leader: Leader) -> None:
    leader.check_in("sl-1", model(1))
    leader.check_in("sl-2", model(1, (3, 2)))
    outcome = await leader.merge()
    assert outcome.left_out == (Exclusion("sl-2", "Tensor w has the shape [3, 2] on sl-2, but [2, 3] on sl-1"),)


@pytest.mark.parametrize("size", [2**40, 2**62, 148, 156, 1])
async def test_who_announces_another_size_than_the_header_gives_is_left_out_unasked(
    leader: Leader, waits_s: list[float], size: int
) -> None:
    mine = leader.check_in("sl-1", model(1))
    leader.entries.append(CheckInEntry("sl-2", "0" * 64, size, 1, False))
    outcome = await leader.merge()
    words = f"it announced {size} bytes for parameters that have {mine.model.size}"
    assert outcome.left_out == (Exclusion("sl-2", words),)
    assert not waits_s


async def test_parameters_that_cannot_be_fetched_are_left_out(leader: Leader, waits_s: list[float]) -> None:
    mine = leader.check_in("sl-1", model(1))
    leader.entries.append(CheckInEntry("sl-2", "0" * 64, mine.model.size, 1, False))
    outcome = await leader.merge()
    (excluded,) = outcome.left_out
    assert excluded.name == "sl-2"
    assert excluded.reason.startswith("its parameters could not be fetched (")
    assert waits_s


async def test_one_that_has_left_is_asked_but_not_waited_for(leader: Leader, waits_s: list[float]) -> None:
    mine = leader.check_in("sl-1", model(1))
    leader.entries.append(CheckInEntry("sl-2", "ab" * 32, mine.model.size, 1, False))
    leader.gone = {"sl-2"}
    outcome = await leader.merge()
    assert [entry.name for entry in outcome.left_out] == ["sl-2"]
    assert not waits_s


async def test_a_round_without_weight_keeps_the_last_merged_model_or_takes_the_plain_mean(leader: Leader) -> None:
    leader.check_in("sl-1", model(1), weight=0)
    leader.check_in("sl-2", model(3), weight=0)
    np.testing.assert_array_equal(leader.result(await leader.merge())["w"], model(2)["w"])
    last = leader.put(model(7))
    assert (await leader.merge(held=HeldModel(4, last.model))).model == last.model


async def test_the_result_does_not_depend_on_who_leads_nor_on_the_order(
    leader: Leader, pki: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    models: list[Model] = [{"w": rng.standard_normal(1000).astype(np.float32)} for _ in range(3)]
    other = Leader(pki, tmp_path / "other")
    for i in range(3):
        leader.check_in(f"sl-{i}", models[i], weight=i + 1)
        other.check_in(f"sl-{2 - i}", models[2 - i], weight=3 - i)
    assert (await leader.merge()).model == (await other.merge()).model
