"""The robust methods against other people's implementations of them, on small input."""

from collections.abc import Sequence
from typing import Any

import byzfl
import numpy as np
import pytest
from geom_median.numpy import compute_geometric_median
from numpy.typing import NDArray

from services.merge.distances import krum
from services.merge.engine import ParameterSet, merge
from services.merge.gram import Gram
from services.merge.layout import TensorLayout

Array = NDArray[np.float64]


def run(method: str, arrays: Sequence[Array], weights: Sequence[int]) -> Array:
    layout = {"t": TensorLayout("F64", arrays[0].shape)}
    sets = [
        ParameterSet(f"sl-{index:02}", weight, layout, {"t": array})
        for index, (array, weight) in enumerate(zip(arrays, weights, strict=True))
    ]
    out = bytearray()
    assert merge(method, sets, out.extend) == ()
    return np.frombuffer(bytes(out))


@pytest.fixture(params=range(4))
def sets(request: Any) -> Array:
    rng = np.random.default_rng(request.param)
    found = rng.standard_normal((9, 25))
    found[:2] *= 20
    return found


def test_geomedian_is_that_of_geom_median(sets: Array) -> None:
    weights = np.random.default_rng(0).integers(1, 9, len(sets))
    theirs = compute_geometric_median(list(sets), weights.astype(float), eps=1e-12, maxiter=10_000, ftol=1e-20)
    np.testing.assert_allclose(run("geomedian", sets, weights.tolist()), theirs.median, rtol=1e-5, atol=1e-6)


def test_geomedian_is_that_of_byzfl(sets: Array) -> None:
    theirs = byzfl.GeometricMedian(nu=1e-12, T=500)(sets)
    np.testing.assert_allclose(run("geomedian", sets, [1] * 9), theirs, rtol=1e-5, atol=1e-6)


def test_coordmedian_and_trimmed_mean_are_those_of_byzfl(sets: Array) -> None:
    np.testing.assert_allclose(run("coordmedian", sets, [1] * 9), byzfl.Median()(sets), rtol=1e-12)
    np.testing.assert_allclose(run("trimmed_mean", sets, [1] * 9), byzfl.TrMean(f=3)(sets), rtol=1e-9, atol=1e-12)


def test_krum_and_multi_krum_are_those_of_byzfl(sets: Array) -> None:
    # byzfl adds up n - f - 1 distances where the paper says n - f - 2: its f is one more than ours.
    gram, weights = Gram(sets @ sets.T, 0), [1] * 9
    np.testing.assert_allclose(krum(outliers=2)(gram, weights) @ sets, byzfl.Krum(f=3)(sets))
    np.testing.assert_allclose(krum(outliers=2, keep=6)(gram, weights) @ sets, byzfl.MultiKrum(f=3)(sets), atol=1e-12)
