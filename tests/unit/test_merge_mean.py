"""The weighted mean: against numpy, against exact arithmetic, and in its corners."""

import errno
import os
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.merge.engine import NonFinite, ParameterSet, merge
from services.merge.errors import LayoutDiffers, NothingToMerge, UnknownMethod
from services.merge.layout import STORAGE, TensorLayout, difference

Array = NDArray[np.generic]

weights_of_sets = st.lists(st.integers(1, 100), min_size=1, max_size=6)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def one(name: str, weight: int, dtype: str, values: Array) -> ParameterSet:
    return ParameterSet(name, weight, {"t": TensorLayout(dtype, values.shape)}, {"t": values})


def merged(dtype: str, arrays: Sequence[Array], weights: Sequence[int], block_elements: int | None = None) -> Array:
    sets = [one(f"sl-{i}", weight, dtype, array) for i, (array, weight) in enumerate(zip(arrays, weights, strict=True))]
    out = bytearray()
    assert merge("mean", sets, out.extend, block_elements=block_elements) == ()
    return np.frombuffer(bytes(out), STORAGE[dtype]).reshape(arrays[0].shape)


def random_sets(dtype: str, count: int, shape: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(7)
    return [rng.standard_normal(shape).astype(STORAGE[dtype]) for _ in range(count)]


def round_half_even(value: Fraction) -> int:
    return round(value)


@pytest.mark.parametrize(
    "weights", [[1], [1, 1], [2, 1, 2], [1, 2, 3, 100], [1] * 7, [3] * 8, [1] * 21, [*range(1, 20)]]
)
@pytest.mark.parametrize(("dtype", "unit"), [("F32", 2.0**-24), ("F64", 2.0**-53)])
def test_the_average_is_within_the_bound_that_the_docstring_gives(dtype: str, unit: float, weights: list[int]) -> None:
    arrays = random_sets(dtype, len(weights), (37, 11))
    wide = [array.astype(np.longdouble) for array in arrays]
    exact = sum(weight * values for weight, values in zip(weights, wide, strict=True)) / sum(weights)
    size = sum(weight * abs(values) for weight, values in zip(weights, wide, strict=True)) / sum(weights)
    off = abs(merged(dtype, arrays, weights).astype(np.longdouble) - exact)
    assert (off <= (6 * np.ceil(np.log2(len(weights)) / 2) + 3) * unit * size).all()


def test_equal_values_stay_as_they_are_however_far_apart_the_weights_are() -> None:
    values = np.random.default_rng(3).standard_normal(1000)
    assert (merged("F64", [values] * 3, [1, 2**119, 2**120]) == values).all()


def test_half_precision_is_rounded_once() -> None:
    arrays, weights = random_sets("F16", 4, (37, 11)), [1, 2, 3, 100]
    exact = np.average([array.astype(np.float64) for array in arrays], axis=0, weights=weights)
    off = abs(merged("F16", arrays, weights).astype(np.float64) - exact)
    assert (off <= 0.5001 * np.spacing(abs(exact).astype(np.float16)).astype(np.float64)).all()


def test_bfloat16_is_rounded_to_the_nearest() -> None:
    def bits(values: list[float]) -> Array:
        return (np.array(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)

    # 1.0 and 1.0078125 are neighbours: a third between them goes down, two thirds up, the middle to the even one.
    low, high = bits([1.0]), bits([1.0078125])
    assert merged("BF16", [low, high], [2, 1])[0] == low[0]
    assert merged("BF16", [low, high], [1, 2])[0] == high[0]
    assert merged("BF16", [low, high], [1, 1])[0] == low[0]
    assert merged("BF16", [high, bits([1.015625])], [1, 1])[0] == bits([1.015625])[0]


@settings(deadline=None)
@given(st.lists(finite, min_size=1, max_size=20), weights_of_sets)
def test_equal_sets_merge_to_themselves_whatever_their_weights(values: list[float], weights: list[int]) -> None:
    array = np.array(values, np.float32)
    result = merged("F32", [array] * len(weights), weights)
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize("dtype", ["F32", "F64"])
@pytest.mark.parametrize("count", range(2, 34))
@pytest.mark.parametrize("alike", [True, False])
def test_elements_that_all_sets_share_stay_as_they_are_among_others_that_differ(
    dtype: str, count: int, alike: bool
) -> None:
    arrays = [array.copy() for array in random_sets(dtype, count, (600,))]
    for array in arrays:
        array[100:500] = arrays[0][100:500]
    arrays[-1][400:450] = arrays[1][0:50]
    result = merged(dtype, arrays, [7] * count if alike else list(range(1, count + 1)))
    np.testing.assert_array_equal(result[100:400], arrays[0][100:400])
    np.testing.assert_array_equal(result[450:500], arrays[0][450:500])
    weights = [1] * count if alike else list(range(1, count + 1))
    np.testing.assert_allclose(result, np.average(arrays, axis=0, weights=weights), rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_an_integer_weight_equals_that_many_duplicates(weights: list[int]) -> None:
    arrays = random_sets("F32", len(weights), (13,))
    duplicates = [array for array, weight in zip(arrays, weights, strict=True) for _ in range(weight)]
    expected = merged("F32", duplicates, [1] * len(duplicates))
    np.testing.assert_allclose(merged("F32", arrays, weights), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [name for name in STORAGE if name[0] in "IU"])
@settings(deadline=None)
@given(data=st.data())
def test_integers_are_exact_up_to_their_limits(dtype: str, data: st.DataObject) -> None:
    limits = np.iinfo(STORAGE[dtype])
    near_the_ends = st.integers(limits.min, limits.min + 3) | st.integers(limits.max - 3, limits.max)
    value = st.integers(limits.min, limits.max) | near_the_ends
    weights = data.draw(weights_of_sets)
    values = [data.draw(value) for _ in weights]
    arrays = [np.array([entry], STORAGE[dtype]) for entry in values]
    exact = Fraction(sum(weight * entry for weight, entry in zip(weights, values, strict=True)), sum(weights))
    assert int(merged(dtype, arrays, weights)[0]) == round_half_even(exact)  # type: ignore[call-overload]


def test_a_counter_above_two_to_the_53_keeps_its_last_digit() -> None:
    counter = np.array(2**53 + 1, np.int64)
    assert merged("I64", [counter, counter], [1, 1]) == counter


def test_bool_follows_more_than_half_of_the_weight() -> None:
    yes, no = np.array([True]), np.array([False])
    assert merged("BOOL", [yes, no], [3, 2])[0]
    assert not merged("BOOL", [yes, no, no], [3, 2, 2])[0]
    assert not merged("BOOL", [yes, no], [1, 1])[0]


def test_a_set_without_weight_changes_nothing() -> None:
    arrays = random_sets("F32", 2, (9,))
    np.testing.assert_array_equal(merged("F32", arrays, [3, 0]), arrays[0])


@pytest.mark.parametrize("dtype", list(STORAGE))
def test_scalars_and_empty_tensors_are_merged(dtype: str) -> None:
    scalar, empty = np.ones((), STORAGE[dtype]), np.ones((3, 0), STORAGE[dtype])
    assert merged(dtype, [scalar, scalar], [1, 2]) == scalar
    assert merged(dtype, [empty, empty], [1, 2]).shape == (3, 0)


def test_non_contiguous_input_is_read_in_its_logical_order() -> None:
    array = random_sets("F32", 1, (6, 8))[0]
    np.testing.assert_array_equal(merged("F32", [array.T[::2], array.T[::2]], [1, 1]), array.T[::2])


@pytest.mark.parametrize("dtype", ["F16", "F32", "F64", "BF16", "I64", "U8"])
@pytest.mark.parametrize("block_elements", [1, 7, 64, 1000])
def test_the_result_does_not_depend_on_the_block_size(dtype: str, block_elements: int) -> None:
    rng = np.random.default_rng(3)
    arrays = [rng.integers(0, 120, 257).astype(STORAGE[dtype]) for _ in range(3)]
    whole = merged(dtype, arrays, [3, 1, 2])
    np.testing.assert_array_equal(merged(dtype, arrays, [3, 1, 2], block_elements), whole)


@pytest.mark.parametrize("block_elements", [1, 2, 4])
def test_huge_values_do_not_overflow_nor_disturb_their_neighbours(block_elements: int) -> None:
    top = np.finfo(np.float64).max
    arrays = [np.array([top, 1.0, -top, 0.1]), np.array([top, 2.0, -top, 0.2])]
    result = merged("F64", arrays, [100, 50], block_elements)
    np.testing.assert_array_equal(result, [top, 200 / 150, -top, (0.1 * 100 + 0.2 * 50) / 150])


@settings(deadline=None)
@given(st.permutations(range(4)))
def test_the_order_of_the_sets_does_not_matter(order: list[int]) -> None:
    arrays = random_sets("F64", 4, (50,))
    sets = [one(f"sl-{i}", 1 + i, "F64", arrays[i]) for i in range(4)]
    straight, shuffled = bytearray(), bytearray()
    merge("mean", sets, straight.extend)
    merge("mean", [sets[i] for i in order], shuffled.extend)
    assert straight == shuffled


def test_tensors_come_out_in_the_order_of_their_names() -> None:
    layout = {"b": TensorLayout("U8", (1,)), "a": TensorLayout("U8", (2,)), "a.b": TensorLayout("U8", ())}
    tensors: dict[str, Array] = {
        "b": np.array([9], np.uint8),
        "a": np.array([1, 2], np.uint8),
        "a.b": np.array(5, np.uint8),
    }
    out = bytearray()
    merge("mean", [ParameterSet("sl-1", 1, layout, tensors)], out.extend)
    assert out == bytes([1, 2, 5, 9])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F16", "F32", "F64"])
@pytest.mark.parametrize("weight", [0, 1])
def test_non_finite_sets_are_named_with_their_tensor(bad: float, dtype: str, weight: int) -> None:
    layout = {name: TensorLayout(dtype, (4,)) for name in ("a", "b")}

    def with_value(name: str, weight: int, value: float) -> ParameterSet:
        good = np.ones(4, STORAGE[dtype])
        spoiled = np.array([1, 1, value, 1], STORAGE[dtype])
        return ParameterSet(name, weight, layout, {"a": good, "b": spoiled})

    sets = [with_value("sl-1", 1, 1.0), with_value("sl-2", weight, bad), with_value("sl-3", 1, 2.0)]
    assert merge("mean", sets, bytearray().extend) == (NonFinite("sl-2", "b"),)


def test_opposite_infinities_name_both_sets() -> None:
    sets = [
        one("sl-1", 1, "F32", np.array([np.inf], np.float32)),
        one("sl-2", 1, "F32", -np.array([np.inf], np.float32)),
    ]
    assert [found.name for found in merge("mean", sets, bytearray().extend)] == ["sl-1", "sl-2"]


def test_non_finite_bfloat16_is_found() -> None:
    infinity = np.array([0x7F80], np.uint16)
    one_ = np.array([0x3F80], np.uint16)
    sets = [one("sl-1", 1, "BF16", one_), one("sl-2", 1, "BF16", infinity)]
    assert merge("mean", sets, bytearray().extend) == (NonFinite("sl-2", "t"),)


def test_a_sandbox_that_does_not_tell_of_processors_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_process: int) -> set[int]:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "sched_getaffinity", forbidden)
    assert merged("F32", [np.full(9, value, np.float32) for value in (1, 2)], [1, 1]).tolist() == [1.5] * 9


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(UnknownMethod, match="no merge method 'median'; there is mean, coordmedian, geomedian"):
        merge("median", [one("sl-1", 1, "F32", np.ones(1, np.float32))], bytearray().extend)


@pytest.mark.parametrize(
    ("names", "weights"), [([], []), (["a", "a"], [1, 1]), (["a", "b"], [0, 0]), (["a", "b"], [2, -1])]
)
def test_nothing_to_merge_is_refused(names: list[str], weights: list[int]) -> None:
    sets = [one(name, weight, "F32", np.ones(1, np.float32)) for name, weight in zip(names, weights, strict=True)]
    with pytest.raises(NothingToMerge):
        merge("mean", sets, bytearray().extend)


def test_a_layout_that_differs_is_refused_with_tensor_and_names() -> None:
    sets = [one("sl-1", 1, "F32", np.ones((2, 3), np.float32)), one("sl-2", 1, "F32", np.ones((3, 2), np.float32))]
    with pytest.raises(LayoutDiffers, match=r"Tensor t has the shape \[3, 2\] on sl-2, but \[2, 3\] on sl-1"):
        merge("mean", sets, bytearray().extend)


def test_arrays_that_are_not_what_their_layout_says_are_refused() -> None:
    liar = ParameterSet("sl-1", 1, {"t": TensorLayout("F32", (4,))}, {"t": np.ones(3, np.float32)})
    with pytest.raises(LayoutDiffers, match="not what its layout says"):
        merge("mean", [liar], bytearray().extend)


def test_difference_names_the_first_tensor_by_name() -> None:
    mine = {"a": TensorLayout("F32", (1,)), "b": TensorLayout("F32", ())}
    assert difference(mine, "me", mine, "you") is None
    assert difference(mine, "me", {"a": mine["a"]}, "you") == "me has a tensor b, which you has not"
    assert difference({"b": mine["b"]}, "me", mine, "you") == "me has no tensor a, which you has"
    other = mine | {"a": TensorLayout("F16", (1,))}
    assert difference(mine, "me", other, "you") == "Tensor a has the dtype F32 on me, but F16 on you"
