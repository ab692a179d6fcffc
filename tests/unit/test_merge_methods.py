"""The methods beside the mean: against numpy, against what defines them, and in their corners."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.merge.distances import krum
from services.merge.engine import CHUNK_BYTES, METHODS, NonFinite, ParameterSet, merge, passes_of
from services.merge.layout import STORAGE, TensorLayout
from services.merge.methods import Method
from services.merge.ranks import coordmedian, trimmed_mean

Array = NDArray[Any]

BUILT_IN = ("mean", "coordmedian", "geomedian", "trimmed_mean", "krum")
ROBUST = ("coordmedian", "geomedian", "trimmed_mean", "krum")
finite = st.floats(-1e6, 1e6, width=32)


def sets_of(arrays: Sequence[Array], weights: Sequence[int], dtype: str = "F32") -> list[ParameterSet]:
    return [
        ParameterSet(f"sl-{index:02}", weight, {"t": TensorLayout(dtype, array.shape)}, {"t": array})
        for index, (array, weight) in enumerate(zip(arrays, weights, strict=True))
    ]


def run(
    method: str, arrays: Sequence[Array], weights: Sequence[int] | None = None, dtype: str = "F32", **how: int
) -> Array:
    out = bytearray()
    assert merge(method, sets_of(arrays, weights or [1] * len(arrays), dtype), out.extend, **how) == ()
    return np.frombuffer(bytes(out), STORAGE[dtype]).reshape(arrays[0].shape)


def random_sets(count: int, size: int = 40, dtype: str = "f4", seed: int = 7) -> list[Array]:
    return list(np.random.default_rng(seed).standard_normal((count, size)).astype(dtype))


def objective(point: Array, arrays: Sequence[Array], weights: Sequence[int]) -> float:
    return sum(
        weight * float(np.linalg.norm(np.asarray(array, np.float64) - point))
        for array, weight in zip(arrays, weights, strict=True)
    )


# --- coordmedian --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 17))
@pytest.mark.parametrize("dtype", ["F32", "F64", "F16"])
def test_coordmedian_of_equal_weights_is_the_median_of_numpy(count: int, dtype: str) -> None:
    arrays = [array.astype(STORAGE[dtype]) for array in random_sets(count, 300)]
    np.testing.assert_array_equal(run("coordmedian", arrays, [3] * count, dtype), np.median(arrays, axis=0))


@pytest.mark.parametrize("dtype", ["F32", "F64"])
@settings(deadline=None)
@given(data=st.data())
def test_coordmedian_of_integer_weights_is_the_median_of_duplicates(dtype: str, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=7))
    values = data.draw(st.lists(st.lists(finite, min_size=3, max_size=3), min_size=len(weights), max_size=len(weights)))
    arrays = [np.array(row, STORAGE[dtype]) for row in values]
    duplicates = [array for array, weight in zip(arrays, weights, strict=True) for _ in range(weight)]
    np.testing.assert_array_equal(run("coordmedian", arrays, weights, dtype), np.median(duplicates, axis=0))


def test_coordmedian_averages_where_half_of_the_weight_lies_on_each_side() -> None:
    assert run("coordmedian", [np.float32([1]), np.float32([5]), np.float32([9])], [2, 1, 1])[0] == 3


@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_coordmedian_tells_weights_apart_that_a_float32_cannot(dtype: str) -> None:
    arrays = [np.array([value], STORAGE[dtype]) for value in (1, 2, 3)]
    assert run("coordmedian", arrays, [2**25, 2**25 - 1, 1], dtype)[0] == 1.5
    assert run("coordmedian", arrays, [2**25 - 1, 2**25, 1], dtype)[0] == 2


def test_zeros_of_either_sign_give_the_same_bits_wherever_they_lie() -> None:
    rng = np.random.default_rng(0)
    arrays = [np.where(rng.random(1000) < 0.5, 0.0, -0.0).astype(np.float32) for _ in range(5)]
    for method in ("coordmedian", "trimmed_mean"):
        assert not np.signbit(run(method, arrays)).any()


# --- trimmed mean ---------------------------------------------------------------------------------------------


def test_trimmed_mean_drops_whole_sets_at_both_ends() -> None:
    arrays = random_sets(9)
    expected = np.sort(arrays, axis=0)[3:6].mean(axis=0)
    np.testing.assert_allclose(run("trimmed_mean", arrays), expected, rtol=1e-6, atol=1e-7)


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_trimmed_mean_takes_a_weight_for_that_many_duplicates(weights: list[int]) -> None:
    arrays = random_sets(len(weights))
    duplicates = [array for array, weight in zip(arrays, weights, strict=True) for _ in range(weight)]
    np.testing.assert_allclose(
        run("trimmed_mean", arrays, weights), run("trimmed_mean", duplicates), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("fraction", [Fraction(-1, 5), Fraction(1, 2)])
def test_a_trimmed_mean_that_keeps_nothing_is_refused(fraction: Fraction) -> None:
    with pytest.raises(ValueError, match="less than 1/2"):
        trimmed_mean(fraction)


# --- geomedian ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_geomedian_meets_the_first_order_condition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(30) * scale for scale in (1, 1, 2, 3, 10, 1000)]
    weights = [int(weight) for weight in rng.integers(1, 6, 6)]
    point = run("geomedian", arrays, weights, "F64")
    away = [array - point for array in arrays]
    lengths = [float(np.linalg.norm(difference)) for difference in away]
    at = [index for index, length in enumerate(lengths) if length < 1e-9]
    pull = sum(weights[i] * away[i] / lengths[i] for i in range(6) if i not in at)
    assert np.linalg.norm(pull) <= sum(weights[i] for i in at) + 1e-6 * sum(weights)


@settings(deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 9), min_size=1, max_size=7))
def test_geomedian_is_no_worse_than_any_input_or_the_mean(seed: int, weights: list[int]) -> None:
    arrays = random_sets(len(weights), 5, "f8", seed)
    best = objective(run("geomedian", arrays, weights, "F64"), arrays, weights)
    for other in [*arrays, np.average(arrays, axis=0, weights=weights)]:
        assert best <= objective(other, arrays, weights) * (1 + 1e-9)


def test_geomedian_turns_with_its_inputs() -> None:
    arrays = random_sets(5, 12, "f8")
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))
    np.testing.assert_allclose(
        run("geomedian", [turn @ array for array in arrays], dtype="F64"),
        turn @ run("geomedian", arrays, dtype="F64"),
        atol=1e-8,
    )


def test_geomedian_of_collinear_sets_is_their_median() -> None:
    direction = np.array([1.0, 2.0, -1.0])
    arrays = [direction * step for step in (0, 1, 2, 10, 1000)]
    np.testing.assert_allclose(run("geomedian", arrays, dtype="F64"), 2 * direction, atol=1e-9)


def test_geomedian_keeps_its_digits_under_a_large_common_offset() -> None:
    arrays = random_sets(5, 50, "f8")
    far = [array + 1e6 for array in arrays]
    np.testing.assert_allclose(
        run("geomedian", far, dtype="F64") - 1e6, run("geomedian", arrays, dtype="F64"), atol=1e-8
    )


@pytest.mark.parametrize("liar", range(5))
@pytest.mark.parametrize("size", [1e6, 1e15, 1e30])
def test_geomedian_stays_among_the_honest_however_far_a_liar_is(liar: int, size: float) -> None:
    arrays = random_sets(5, 50)
    arrays[liar] = (arrays[liar] * size).astype(np.float32)
    honest = [array for index, array in enumerate(arrays) if index != liar]
    point = run("geomedian", arrays)
    reach = max(float(np.linalg.norm(array - np.mean(honest, axis=0))) for array in honest)
    assert np.linalg.norm(point - np.mean(honest, axis=0)) <= reach


def test_geomedian_of_float64_beyond_the_root_of_its_range_stays_finite() -> None:
    arrays = [np.array([1e300, 1.0]), np.array([1e300, 2.0]), np.array([-1e300, 0.0])]
    assert np.isfinite(run("geomedian", arrays, dtype="F64")).all()


def test_more_than_half_of_the_weight_decides() -> None:
    arrays = random_sets(4)
    for method in ("coordmedian", "geomedian"):
        np.testing.assert_array_equal(run(method, arrays, [1, 7, 2, 3]), arrays[1])


# --- krum -----------------------------------------------------------------------------------------------------


def test_krum_takes_a_set_from_the_crowd_as_it_is() -> None:
    arrays = random_sets(7)
    arrays[0] += 100
    arrays[3] -= 50
    squares = np.array([[np.sum((one - other) ** 2) for other in arrays] for one in arrays])
    scores = np.sort(squares, axis=1)[:, 1:4].sum(axis=1)  # two outliers of seven: three neighbours each
    np.testing.assert_array_equal(run("krum", arrays), arrays[int(np.argmin(scores))])


def test_krum_of_equal_scores_takes_the_first_by_name_and_of_two_the_mean() -> None:
    arrays = [np.float32([0, 0]), np.float32([2, 0])]
    np.testing.assert_array_equal(run("krum", arrays), [1, 0])
    np.testing.assert_array_equal(run("krum", [*arrays, np.float32([1, 0])]), [0, 0])


def test_krum_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        krum(keep=0)


# --- all ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", BUILT_IN)
@pytest.mark.parametrize("dtype", list(STORAGE))
def test_equal_sets_come_out_as_they_are(method: str, dtype: str) -> None:
    array = (np.random.default_rng(1).integers(0, 2, 99) * 3).astype(STORAGE[dtype])
    if dtype == "F32":
        array = np.random.default_rng(1).standard_normal(99).astype(np.float32)
    for weights in ([4], [1, 1], [1, 2, 1], [1] * 5, [3, 1, 1, 5]):
        np.testing.assert_array_equal(run(method, [array] * len(weights), weights, dtype), array)


@pytest.mark.parametrize("method", BUILT_IN)
@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_scalars_and_empty_tensors_are_merged(method: str, dtype: str) -> None:
    scalar, empty = np.ones((), STORAGE[dtype]), np.ones((3, 0), STORAGE[dtype])
    assert run(method, [scalar] * 3, dtype=dtype) == scalar
    assert run(method, [empty] * 3, dtype=dtype).shape == (3, 0)


@pytest.mark.parametrize("method", BUILT_IN)
def test_bfloat16_is_merged_as_its_values(method: str) -> None:
    arrays = [(array.view(np.uint32) >> 16).astype(np.uint16) for array in random_sets(3)]
    wide = [(array.astype(np.uint32) << 16).view(np.float32) for array in arrays]
    result = (run(method, arrays, dtype="BF16").astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_allclose(result, run(method, wide), rtol=2**-8)


@pytest.mark.parametrize("method", BUILT_IN)
def test_integers_and_bools_follow_the_weighted_mean(method: str) -> None:
    layout = {"f": TensorLayout("F32", (1,)), "n": TensorLayout("I64", ()), "y": TensorLayout("BOOL", (1,))}
    sets = [
        ParameterSet(
            f"sl-{i}", weight, layout, {"f": np.ones(1, np.float32), "n": np.array(count), "y": np.array([yes])}
        )
        for i, (weight, count, yes) in enumerate([(3, 10, True), (1, 20, False), (1, 30, False)])
    ]
    out = bytearray()
    merge(method, sets, out.extend)
    assert np.frombuffer(bytes(out[4:12]), np.int64)[0] == 16
    assert out[12] == 1


@pytest.mark.parametrize("method", BUILT_IN)
@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [4, 1, 2, 1]])
def test_translation_and_scale_pass_through(method: str, weights: list[int]) -> None:
    arrays = random_sets(4, 30, "f8")
    moved = run(method, [2 * array + 3 for array in arrays], weights, "F64")
    np.testing.assert_allclose(moved, 2 * run(method, arrays, weights, "F64") + 3, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", BUILT_IN)
@pytest.mark.parametrize("weights", [[1] * 5, [4, 1, 2, 1, 3]])
def test_bits_depend_neither_on_blocks_nor_threads_nor_order(method: str, weights: list[int]) -> None:
    count = 2 * CHUNK_BYTES // 4 + 1001
    rng = np.random.default_rng(3)
    layout = {"a": TensorLayout("U8", (3,)), "b": TensorLayout("F32", (count,)), "c": TensorLayout("F16", (70_001,))}

    def one(index: int) -> ParameterSet:
        tensors = {
            "a": np.full(3, index, np.uint8),
            "b": rng.standard_normal(count, dtype=np.float32),
            "c": rng.standard_normal(70_001).astype(np.float16),
        }
        return ParameterSet(f"sl-{index}", weights[index], layout, tensors)

    sets = [one(index) for index in range(5)]

    def result(entries: Sequence[ParameterSet], block_elements: int, threads: int) -> bytes:
        out = bytearray()
        assert merge(method, entries, out.extend, block_elements=block_elements, threads=threads) == ()
        return bytes(out)

    first = result(sets, 1 << 16, 1)
    assert len(first) == 3 + 4 * count + 2 * 70_001
    assert result(sets[::-1], 10_007, 2) == first
    assert result(sets[2:] + sets[:2], 1 << 18, 3) == first


@pytest.mark.parametrize("method", BUILT_IN)
@pytest.mark.parametrize("block_elements", [1, 3, 64])
def test_small_blocks_change_nothing(method: str, block_elements: int) -> None:
    arrays = random_sets(8, 201)
    for weights in ([1] * 8, [1, 2, 3, 4, 5, 6, 7, 8]):
        whole = run(method, arrays, weights)
        np.testing.assert_array_equal(run(method, arrays, weights, block_elements=block_elements), whole)


@pytest.mark.parametrize("method", BUILT_IN)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weight", [0, 1])
@pytest.mark.parametrize("liar", [0, 2])
@pytest.mark.parametrize("dtype", ["F32", "F64", "F16"])
def test_non_finite_sets_are_named_with_their_tensor(
    method: str, bad: float, weight: int, liar: int, dtype: str
) -> None:
    layout = {name: TensorLayout(dtype, (4,)) for name in ("a", "b")}
    sets = [
        ParameterSet(
            f"sl-{i}",
            weight if i == liar else 1,
            layout,
            {
                "a": np.full(4, i, STORAGE[dtype]),
                "b": np.array([1, 1, bad if i == liar else i, 1], STORAGE[dtype]),
            },
        )
        for i in range(4)
    ]
    assert merge(method, sets, bytearray().extend) == (NonFinite(f"sl-{liar}", "b"),)


@pytest.mark.parametrize("method", BUILT_IN)
@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_the_largest_values_do_not_overflow(method: str, dtype: str) -> None:
    top = np.finfo(STORAGE[dtype]).max
    arrays = [np.array([top, -top, 1], STORAGE[dtype])] * 4
    for weights in ([1] * 4, [5, 1, 1, 2]):
        np.testing.assert_array_equal(run(method, arrays, weights, dtype), arrays[0])


@pytest.mark.parametrize("method", ROBUST)
def test_one_liar_of_three_moves_a_robust_result_within_the_honest_spread(method: str) -> None:
    honest = random_sets(2)
    liar = np.full(40, 1e20, np.float32)
    point = run(method, [liar, *honest]).astype(np.float64)
    assert np.linalg.norm(point - np.mean(honest, axis=0)) <= 2 * np.linalg.norm(honest[0] - honest[1])
    assert run("mean", [liar, *honest]).max() > 1e19


def test_a_set_without_weight_changes_nothing() -> None:
    arrays = random_sets(4)
    for method in BUILT_IN:
        np.testing.assert_array_equal(
            run(method, arrays, [1, 0, 2, 2]), run(method, arrays[:1] + arrays[2:], [1, 2, 2])
        )


def test_what_was_read_is_told_and_may_end_the_merge() -> None:
    arrays = random_sets(3, CHUNK_BYTES // 4 + 5)
    told: list[int] = []
    merge("geomedian", sets_of(arrays, [1, 1, 1]), lambda _segment: None, read=told.append)
    assert told == [CHUNK_BYTES, 20]

    def refuse(_bytes: object) -> None:
        raise InterruptedError

    for how in ({"read": refuse}, {}):
        with pytest.raises(InterruptedError):
            merge("geomedian", sets_of(arrays, [1, 1, 1]), refuse, **how)


# --- the table ------------------------------------------------------------------------------------------------


def test_the_table_holds_the_built_in_methods_and_their_passes() -> None:
    assert tuple(METHODS)[:5] == BUILT_IN
    assert [passes_of(method) for method in BUILT_IN] == [1, 1, 2, 1, 2]
    assert "median" not in METHODS


def test_a_method_is_either_of_both_kinds() -> None:
    with pytest.raises(ValueError, match="either combine or shares"):
        Method()


def test_an_installed_package_adds_a_method(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "midrange-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: midrange\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[swarm_learning.merge_methods]\nmidrange = midrange:METHOD\nodd = midrange:X\n"
    )
    (tmp_path / "midrange.py").write_text(
        "import numpy as np\n"
        "from services.merge.methods import Method\n"
        "def combine(blocks, weights, out):\n"
        "    out[:] = (np.minimum.reduce(blocks) + np.maximum.reduce(blocks)) / 2\n"
        "METHOD, X = Method(combine=combine), 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "midrange" in tuple(METHODS)
    np.testing.assert_array_equal(run("midrange", [np.float32([1]), np.float32([2]), np.float32([9])]), [5])
    with pytest.raises(ValueError, match="'odd' of midrange:X is not a Method"):
        METHODS["odd"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("count", range(1, 13))
@pytest.mark.parametrize("alike", [True, False])
def test_a_median_shows_whatever_is_not_finite_in_one_set(bad: float, count: int, alike: bool) -> None:
    weights = [1] * count if alike else list(range(1, count + 1))
    for liar in range(count):
        blocks = [np.random.default_rng(number).normal(size=5).astype(np.float32) for number in range(count)]
        blocks[liar][3] = bad
        out = np.empty(5, np.float32)
        coordmedian(blocks, weights, out)
        assert not np.isfinite(out).all()
