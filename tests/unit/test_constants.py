"""Constants of a model that are not finite: they travel as finite numbers, and come back as they were."""

import numpy as np
import pytest

from services.merge.engine import METHODS, ParameterSet, merge
from services.merge.layout import TensorLayout
from swarm_callback.constants import Constants
from swarm_callback.errors import NotTheSameConstants
from swarm_callback.params import RawTensor
from swarm_callback.rounding import round_in_place

INF, NAN = np.inf, np.nan


def bits(tensor):
    return bytes(tensor.data) if isinstance(tensor, RawTensor) else tensor.tobytes()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_what_is_not_finite_from_the_beginning_travels_finite_and_comes_back(dtype):
    mask = np.array([[0, -INF], [INF, NAN]], dtype)
    constants = Constants()
    given = constants.hidden({"mask": mask, "w": np.ones(2, dtype)}, ["mask"])
    assert np.isfinite(given["mask"]).all()
    assert bits(constants.shown(given)["mask"]) == bits(mask)
    assert mask[0, 1] == -INF  # the model itself is left alone


def test_bfloat16_too():
    mask = RawTensor("BF16", (3,), np.array([0, 0xFF80, 0x7F80], np.uint16).tobytes())
    constants = Constants()
    given = constants.hidden({"mask": mask}, ["mask"])
    assert bits(given["mask"]) != bits(mask)
    assert bits(constants.shown(given)["mask"]) == bits(mask)


@pytest.mark.parametrize(("dtype", "tag"), [(np.float32, "F32"), (np.float64, "F64")])
def test_they_outlive_being_rounded(dtype, tag):
    mask = np.array([0, -INF, NAN], dtype)
    constants = Constants()
    given = dict(constants.hidden({"mask": mask}, ["mask"]))
    round_in_place(tag, given["mask"])
    assert bits(constants.shown(given)["mask"]) == bits(mask)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("dtype", "tag"), [(np.float32, "F32"), (np.float16, "F16"), (np.float64, "F64")])
def test_equal_on_all_nodes_they_outlive_every_merge(method, dtype, tag):
    mask = np.array([0, -INF, INF, NAN, 1], dtype)
    nodes = [Constants() for _ in range(5)]
    layout = {"mask": TensorLayout(tag, mask.shape)}
    sets = [
        ParameterSet(f"sl-{index}", 1 + index, layout, dict(node.hidden({"mask": mask}, ["mask"])))
        for index, node in enumerate(nodes)
    ]
    merged = bytearray()
    assert merge(method, sets, merged.extend) == ()
    found = nodes[0].shown({"mask": np.frombuffer(bytes(merged), dtype)})
    assert bits(found["mask"]) == bits(mask)


def test_what_becomes_infinite_in_training_is_not_hidden():
    constants = Constants()
    before = {"w": np.ones(2, np.float32), "mean": np.ones(2, np.float32), "mask": np.full(2, -INF, np.float32)}
    constants.hidden(before, ["mean", "mask"])
    after = {name: np.full(2, INF, np.float32) for name in before}
    for value in constants.hidden(after, ["mean", "mask"]).values():
        assert not np.isfinite(value).any()


def test_what_is_trained_is_not_hidden_either():
    given = Constants().hidden({"w": np.full(2, NAN, np.float32)}, [])
    assert np.isnan(given["w"]).all()


def test_an_observer_that_has_seen_data_gives_what_it_has_seen():
    constants = Constants()
    constants.hidden({"low": np.full((), INF, np.float32)}, ["low"])
    seen = {"low": np.float32(-3)}
    assert constants.hidden(seen, ["low"])["low"] == -3
    assert constants.shown({"low": np.array(-4, np.float32)})["low"] == -4


def test_another_mask_elsewhere_is_named():
    constants = Constants()
    constants.hidden({"mask": np.array([0, -INF], np.float32)}, ["mask"])
    with pytest.raises(
        NotTheSameConstants, match="The buffer mask holds values that are not finite and differ between nodes"
    ):
        constants.shown({"mask": np.array([0, -1e38], np.float32)})
