"""Pieces of a stream on a slow link: they come out as they went in, smaller, and a liar can make nothing grow."""

import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from services.sl.transfer.packing import FRAME, WIDTHS, Packer, Unpackable, Unpacker, limit_of, width_of
from swarm_callback.params import TensorSpec
from swarm_callback.rounding import round_in_place


def opened(frame: bytes, size: int) -> bytes:
    raw, packed, width = FRAME.unpack(frame[: FRAME.size])
    assert (raw, packed) == (size, len(frame) - FRAME.size)
    out = memoryview(bytearray(size))
    Unpacker().unpack(width, memoryview(frame)[FRAME.size :], out)
    return bytes(out)


@given(st.binary(max_size=600), st.sampled_from(WIDTHS))
def test_whatever_goes_in_comes_out(data: bytes, width: int) -> None:
    frame = Packer().pack(memoryview(data), width)
    assert opened(frame, len(data)) == data
    assert len(frame) - FRAME.size <= limit_of(len(data))


def test_weights_become_smaller_and_rounded_ones_less_than_half() -> None:
    weights = np.random.default_rng(1).normal(0, 0.05, 65536).astype(np.float32)
    size = weights.nbytes
    assert len(Packer().pack(memoryview(weights.view(np.uint8)), 4)) < 0.9 * size
    round_in_place("F32", weights)
    assert len(Packer().pack(memoryview(weights.view(np.uint8)), 4)) < 0.4 * size


def test_the_width_is_that_of_most_bytes() -> None:
    specs = [TensorSpec("a", "I64", (1,), 0, 8), TensorSpec("b", "F32", (9,), 8, 44)]
    assert width_of(specs) == 4
    assert width_of([]) == 1


def plane(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


BOMB = zstandard.ZstdCompressor().compress(bytes(10_000_000))
UNSIZED = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))


@pytest.mark.parametrize(
    ("width", "body"),
    [
        (3, b""), (0, b""), (1, b""), (1, b"\0\0\0"), (1, plane(b"")), (1, plane(bytes(101))), (1, plane(BOMB)),
        (1, plane(UNSIZED)), (1, plane(b"garbage")), (1, plane(bytes(100)) + b"more"), (1, plane(bytes(100))[:-1]),
        (2, plane(bytes(50))), (1, plane(zstandard.ZstdCompressor().compress(bytes(100))[:-1])),
    ],
)  # fmt: skip
def test_what_no_packer_makes_is_refused(width: int, body: bytes) -> None:
    with pytest.raises(Unpackable):
        Unpacker().unpack(width, memoryview(body), memoryview(bytearray(100)))
