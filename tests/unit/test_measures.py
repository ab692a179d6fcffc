"""A loss that is no number, and none at all: never taken for one another, on the chain and in words."""

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chain.events import NO_VALUE, bits_of, measure_of
from services.rpc import swarm_pb2 as pb
from services.rpc.measures import measure, measure_in_json, shown


@given(st.none() | st.floats(allow_nan=False))
def test_the_chain_keeps_each_measure(value: float | None) -> None:
    assert measure_of(bits_of(value)) == value


@given(st.integers(0, 2**64 - 1))
def test_no_nan_that_anybody_sends_is_taken_for_no_value(bits: int) -> None:
    sent = struct.unpack("<d", struct.pack("<Q", bits))[0]
    assert bits_of(sent) != NO_VALUE
    assert bits_of(math.copysign(sent, -1)) != NO_VALUE


def test_the_bits_of_no_value_are_a_nan_elsewhere() -> None:
    all_ones = struct.unpack("<d", struct.pack("<Q", NO_VALUE))[0]
    assert math.isnan(all_ones)  # so that the contract does not count it
    assert math.isnan(measure_of(bits_of(all_ones)) or 0.0)


@pytest.mark.parametrize(
    ("value", "in_json", "in_words"),
    [(0.25, 0.25, "0.2500"), (math.nan, "NaN", "nan"), (math.inf, "Infinity", "inf"), (-math.inf, "-Infinity", "-inf"),
     (None, None, "-")],
)  # fmt: skip
def test_what_a_report_says_is_told_in_json_and_in_words(value: float | None, in_json: object, in_words: str) -> None:
    sent = pb.ReportRequest.FromString(pb.ReportRequest(loss=value).SerializeToString())
    told = measure_in_json(measure(sent, "loss"))
    assert json.loads(json.dumps(told, allow_nan=False)) == in_json
    assert shown(measure(sent, "loss"), ".4f") == shown(told, ".4f") == in_words
