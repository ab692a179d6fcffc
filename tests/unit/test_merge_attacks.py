"""Liars among the nodes of a real training: the robust methods hold, the mean does not."""

import pytest

from benchmarks.attacks import ATTACKS, METHODS, data, training

ROUNDS = 20


@pytest.mark.parametrize("method", METHODS)
def test_without_liars_every_method_learns(method: str) -> None:
    assert training(method, None, *data(), ROUNDS)[-1] > 0.9


@pytest.mark.parametrize("attack", list(ATTACKS)[1:])
@pytest.mark.parametrize("method", METHODS[1:])
def test_robust_methods_learn_among_liars(method: str, attack: str) -> None:
    assert training(method, ATTACKS[attack], *data(), ROUNDS)[-1] > 0.85


@pytest.mark.parametrize("attack", list(ATTACKS)[1:])
def test_the_mean_does_not_learn_among_liars(attack: str) -> None:
    assert training("mean", ATTACKS[attack], *data(), ROUNDS)[-1] < 0.6
