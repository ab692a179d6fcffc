"""Rounding to bfloat16: what is left is the nearest, nothing finite becomes infinite, nothing else is touched."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from swarm_callback.params import decode, encode
from swarm_callback.rounding import Rounded, round_in_place, rounded

SINGLE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(arrays.arrays(np.float32, st.integers(0, 40), elements=SINGLE))
def test_the_nearest_of_the_two_neighbours_is_taken(values: Any) -> None:
    coarse = values.copy()
    round_in_place("F32", coarse)
    assert not (coarse.view(np.uint32) & 0xFFFF).any()
    assert np.isfinite(coarse).all()
    step = np.uint32(0x1_0000)
    for other in ((coarse.view(np.uint32) + step).view(np.float32), (coarse.view(np.uint32) - step).view(np.float32)):
        nearer = np.isfinite(other) & (abs(other.astype(float) - values) < abs(coarse.astype(float) - values))
        assert not nearer.any()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, 1.0), (-0.0, -0.0), (1 + 2**-8, 1.0), (1 + 3 * 2**-8, 1 + 2**-6), (1 + 2**-8 + 2**-20, 1 + 2**-7),
        (np.inf, np.inf), (-np.inf, -np.inf), (3.4028235e38, 3.3895314e38), (-3.4028235e38, -3.3895314e38),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("dtype", "code"), [("F32", np.float32), ("F64", np.float64)])
def test_ties_go_to_even_and_the_largest_stay_finite(dtype: str, code: Any, value: float, expected: float) -> None:
    values = np.array([value], code)
    round_in_place(dtype, values)
    if dtype == "F64" and abs(value) > 1e38 and np.isfinite(value):
        expected = np.sign(value) * 2.0**128  # which float64 holds
    assert values[0] == code(expected)
    assert np.signbit(values[0]) == np.signbit(code(expected))


@pytest.mark.parametrize(("dtype", "code"), [("F32", np.float32), ("F64", np.float64)])
def test_what_is_not_a_number_stays_none_and_the_largest_is_not_infinite(dtype: str, code: Any) -> None:
    every_nan = np.array([-1, np.iinfo(f"i{code().itemsize}").max], f"i{code().itemsize}").view(code)
    values = np.concatenate([every_nan, np.array([np.finfo(code).max, np.finfo(code).min], code)])
    round_in_place(dtype, values)
    assert np.isnan(values[:2]).all()
    assert np.isfinite(values[2:]).all()


def test_only_wide_floats_of_a_stream_are_rounded_and_the_given_model_is_not_touched() -> None:
    tensors = {
        "a": np.array([1 / 3], np.float32), "b": np.array([1 / 3], np.float16), "c": np.array([257], np.int32),
        "d": np.array([1 / 3]), "e": np.empty(0, np.float32),
    }  # fmt: skip
    header, data = encode(tensors)
    pieces = [bytes(piece) for made in rounded(header, data) for piece in pieces_of(made)]
    found = decode(b"".join([header, *pieces]))
    assert [float(found[name][0]) for name in "abcd"] == [0.333984375, float(np.float16(1 / 3)), 257, 0.333984375]
    assert tensors["a"][0] == np.float32(1 / 3)


def pieces_of(made: memoryview | Rounded) -> Iterable[memoryview]:
    return [made] if isinstance(made, memoryview) else made


@pytest.mark.parametrize(("dtype", "code"), [("F32", np.float32), ("F64", np.float64)])
def test_a_large_tensor_is_rounded_in_pieces_as_it_is_in_one(dtype: str, code: Any) -> None:
    values = np.random.default_rng(0).normal(size=150_001).astype(code)
    pieces = [bytes(piece) for piece in Rounded(dtype, values.view(np.uint8).data)]
    whole = values.copy()
    round_in_place(dtype, whole)
    assert len(pieces) > 1
    assert b"".join(pieces) == whole.tobytes()
