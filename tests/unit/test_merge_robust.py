"""What the robust methods promise for every weight and every finite value, while the liars stay below their bound."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.merge.engine import ParameterSet, merge
from services.merge.layout import TensorLayout

LARGEST = {"F32": float(np.finfo(np.float32).max), "F64": float(np.finfo(np.float64).max)}
DTYPE = {"F32": np.float32, "F64": np.float64}
MOST_ALPHA = 0.45  # towards a half the bound of the geometric median grows without end
LARGEST_SQUARED = (
    1e150  # of larger ones, which only float64 holds, the squares do not fit, and small distances are lost
)
COORDINATES = 3


@dataclass(frozen=True)
class Case:
    """Rows are sets; the first ``liars`` of them lie."""

    dtype: str
    rows: NDArray[np.float64]
    weights: tuple[int, ...]
    liars: int

    @property
    def honest(self) -> NDArray[np.float64]:
        return self.rows[self.liars :]

    @property
    def liars_part(self) -> float:
        return sum(self.weights[: self.liars]) / sum(self.weights)


@st.composite
def cases(draw: st.DrawFn, most: float, largest: float = LARGEST["F64"]) -> Case:
    """Honest values of one size, liars of any up to ``largest``, whose part of the weight is at most ``most``."""
    dtype = draw(st.sampled_from(("F32", "F64")))
    count = draw(st.integers(2, 7))
    weights = draw(st.lists(st.integers(1, 100), min_size=count, max_size=count))
    liars = 0
    while liars < count - 1 and sum(weights[: liars + 1]) <= most * sum(weights):
        liars += 1
    size = draw(st.sampled_from((1e-30, 1.0, 1e30)))
    end = min(LARGEST[dtype], largest)
    any_value = st.one_of(
        st.floats(-end, end, width=32 if dtype == "F32" else 64), st.sampled_from((end, -end, 1e17, 0.0))
    )
    honest_value = st.floats(-1, 1, width=32).map(lambda value: float(DTYPE[dtype](value * size)))
    rows = [
        draw(st.lists(any_value if index < liars else honest_value, min_size=COORDINATES, max_size=COORDINATES))
        for index in range(count)
    ]
    return Case(dtype, np.array(rows), tuple(weights), liars)


def merged(method: str, case: Case, *, block_elements: int | None = None, threads: int = 1) -> NDArray[np.float64]:
    sets = [
        ParameterSet(
            f"sl-{index}", weight, {"t": TensorLayout(case.dtype, row.shape)}, {"t": row.astype(DTYPE[case.dtype])}
        )
        for index, (row, weight) in enumerate(zip(case.rows, case.weights, strict=True))
    ]
    out = bytearray()
    assert merge(method, sets, out.extend, block_elements=block_elements, threads=threads) == ()
    return np.frombuffer(bytes(out), DTYPE[case.dtype]).astype(np.float64)


def lies_among_the_honest(result: NDArray[np.float64], case: Case) -> bool:
    return bool(np.all(case.honest.min(axis=0) <= result) and np.all(result <= case.honest.max(axis=0)))


@settings(max_examples=150, deadline=None)
@given(cases(most=0.499))
def test_the_coordinate_median_lies_among_the_values_of_the_honest(case: Case) -> None:
    assert lies_among_the_honest(merged("coordmedian", case), case)


@settings(max_examples=150, deadline=None)
@given(cases(most=1 / 3))
def test_the_trimmed_mean_lies_among_the_values_of_the_honest(case: Case) -> None:
    assert lies_among_the_honest(merged("trimmed_mean", case), case)


@settings(max_examples=150, deadline=None)
@given(cases(most=MOST_ALPHA, largest=LARGEST_SQUARED))
def test_the_geometric_median_is_as_near_to_the_honest_as_its_paper_says(case: Case) -> None:
    """Minsker, "Geometric median and robust estimation in Banach spaces" (Bernoulli 21, 2015), lemma 2.1."""
    alpha = case.liars_part
    centre = case.honest[0]
    size = float(np.abs(case.honest).max()) or 1.0
    radius = float(np.linalg.norm((case.honest - centre) / size, axis=1).max())
    bound = (1 - alpha) / sqrt(1 - 2 * alpha) * radius
    apart = float(np.linalg.norm(merged("geomedian", case) / size - centre / size))
    assert apart <= bound * (1 + 1e-6) + 1e-5


@settings(max_examples=60, deadline=None)
@given(cases(most=1 / 3), st.sampled_from(("coordmedian", "geomedian", "trimmed_mean", "krum")))
def test_bits_depend_on_neither_blocks_nor_threads(case: Case, method: str) -> None:
    whole = merged(method, case)
    for block_elements in (1, 2):
        np.testing.assert_array_equal(merged(method, case, block_elements=block_elements, threads=2), whole)


@pytest.mark.parametrize("lie", [1e3, 1e17, 1e30, 3e38, -3e38])
@pytest.mark.parametrize("weight", [1, 100])
def test_krum_takes_one_of_the_honest_where_liars_are_few(lie: float, weight: int) -> None:
    rows = np.array([[lie], [1.0], [1.25], [1.5], [1.75]])
    assert merged("krum", Case("F32", rows, (weight, 1, 1, 1, 1), 1))[0] in {1.0, 1.25, 1.5, 1.75}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(("mean", "coordmedian", "geomedian", "trimmed_mean", "krum")),
    st.sampled_from(("F32", "F64")),
    st.lists(
        st.tuples(
            st.integers(1, 100), st.lists(st.sampled_from((0.0, 1e-30, 1.0, 3.0, 1e10, 1e30)), min_size=3, max_size=3)
        ),
        min_size=1,
        max_size=9,
    ),
)
def test_a_variance_is_never_below_zero_nor_above_the_largest(
    method: str, dtype: str, sets: list[tuple[int, list[float]]]
) -> None:
    rows = np.array([row for _, row in sets]).astype(DTYPE[dtype]).astype(np.float64)
    result = merged(method, Case(dtype, rows, tuple(weight for weight, _ in sets), 0))
    assert np.all(rows.min(axis=0) * (1 - 1e-5) <= result)
    assert np.all(result <= rows.max(axis=0) * (1 + 1e-5))


@pytest.mark.parametrize("lie", [1e3, 1e17, 1e30, 3e38])
def test_liars_of_little_weight_change_nothing_of_a_trimmed_mean(lie: float) -> None:
    """Of five sets three lie: the middle one by count is a lie, by weight it is not."""
    rows = np.array([[lie]] * 3 + [[1.0], [2.0]])
    near = merged("trimmed_mean", Case("F32", np.array([[3.0]] * 3 + [[1.0], [2.0]]), (1, 1, 1, 100, 100), 3))
    assert merged("trimmed_mean", Case("F32", rows, (1, 1, 1, 100, 100), 3)) == near
    assert 1.0 <= near[0] <= 2.0


@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_sets_of_equal_values_and_other_weights_may_come_in_any_order(dtype: str) -> None:
    rows, weights = np.array([[0.1], [0.1], [0.7], [0.7], [0.3]]), (3, 5, 7, 2, 11)
    order = [3, 1, 4, 0, 2]
    one = merged("trimmed_mean", Case(dtype, rows, weights, 0))
    other = merged("trimmed_mean", Case(dtype, rows[order], tuple(weights[index] for index in order), 0))
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("far", [1e20, 3e38])
def test_the_share_of_a_set_far_away_is_not_lost_on_the_way(far: float) -> None:
    """The iterate that finds the median holds a share of 1e-51 of the set far away."""
    rows = np.array([[0.0], [far], [1e-30], [1e-30]])
    result = merged("geomedian", Case("F32", rows, (1, 1, 1, 2), 2))
    assert result[0] == pytest.approx(1e-30, rel=1e-6)


def test_the_square_of_the_share_of_a_set_far_away_is_not_lost() -> None:
    """In one dimension it is the median; the share of the set at -1e150 is 1e-181 where the iteration begins."""
    rows = np.array([[-5.45e112], [-1e150], [1e-30], [0.0], [0.0]])
    result = merged("geomedian", Case("F64", rows, (1, 1, 1, 1, 1), 2))
    assert abs(result[0]) <= 1e-36
