"""What weighs how much in a merge."""

import pytest

from services.sl.sharding.layouts import MOST_WEIGHT, weights_of
from services.sl.view import CheckInEntry


def entries(*weights_and_staleness: tuple[int, int]) -> list[CheckInEntry]:
    return [
        CheckInEntry(f"sl-{number}", "d", 1, weight, False, staleness)
        for number, (weight, staleness) in enumerate(weights_and_staleness)
    ]


@pytest.mark.parametrize(
    ("given", "shares"),
    [
        ([(1, 0), (3, 0)], [1 / 4, 3 / 4]),
        ([(0, 0), (0, 0)], [1 / 2, 1 / 2]),
        ([(1, 0), (1, 1)], [2 / 3, 1 / 3]),
        ([(100, 0), (100, 3), (50, 4)], [100 / 135, 25 / 135, 10 / 135]),
        ([(1, 0), (1, 9), (1, 500)], [10 / 12, 1 / 12, 1 / 12]),
        ([(0, 2), (7, 1)], [0, 1]),
        ([(1_000_000, 0), (1_000_000, 1)], [2 / 3, 1 / 3]),
    ],
)
def test_what_comes_late_weighs_less(given: list[tuple[int, int]], shares: list[float]) -> None:
    weights = weights_of(entries(*given))
    total = sum(weights.values())
    assert [weight / total for weight in weights.values()] == pytest.approx(shares)


def test_the_weights_of_a_thousand_stay_in_what_a_merge_counts_exactly() -> None:
    weights = weights_of(entries(*[(1_000_000, number % 12) for number in range(1000)]))
    assert sum(weights.values()) <= MOST_WEIGHT
    assert min(weights.values()) > 0
