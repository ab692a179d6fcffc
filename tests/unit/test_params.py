"""The parameter stream: its golden bytes, the safetensors library as judge, and hostile streams."""

import json
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import SafetensorError, deserialize

from swarm_callback.errors import NotStorable, StreamError
from swarm_callback.params import ITEM_BYTES, RawTensor, decode, encode, header_size_of, parse_header, stream_size

GOLDEN_HEADER = (
    b'{"a":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]},'
    b'"b.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[1,9]},'
    b'"c":{"dtype":"BF16","shape":[1],"data_offsets":[9,11]},'
    b'"d":{"dtype":"I64","shape":[0,3],"data_offsets":[11,11]}}    '
)
GOLDEN = b"\xe8\x00\x00\x00\x00\x00\x00\x00" + GOLDEN_HEADER + b"\x01" + b"\x00\x00\x80?\x00\x00\x00\xc0" + b"\x80?"
GOLDEN_TENSORS = {
    "d": np.empty((0, 3), np.int64),
    "c": np.array([1.0], ml_dtypes.bfloat16),
    "b.weight": np.array([[1.0], [-2.0]], np.float32),
    "a": np.array(True),
}
DTYPES = [np.dtype(code) for code in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")]
tensors = st.dictionaries(
    st.text(st.characters(codec="utf-8", categories=["L", "N"], include_characters="._- "), min_size=1),
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    ),
    max_size=5,
)


def stream_of(values) -> bytes:
    header, data = encode(values)
    return header + b"".join(data)


def stream(entries: object, body: bytes = b"", *, length: int | None = None) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(dtype="F32", shape=(1,), start=0, stop=4) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def test_the_stream_has_its_golden_bytes():
    assert stream_of(GOLDEN_TENSORS) == GOLDEN
    header, data = encode(GOLDEN_TENSORS)
    assert stream_size(header, data) == len(GOLDEN)


def test_golden_bytes_are_read_back_exactly():
    found = decode(GOLDEN)
    assert list(found) == ["a", "b.weight", "c", "d"]
    assert found["a"].shape == () and found["a"].dtype == np.bool_
    np.testing.assert_array_equal(found["b.weight"], GOLDEN_TENSORS["b.weight"])
    assert found["c"] == RawTensor("BF16", (1,), memoryview(b"\x80?"))
    assert found["d"].shape == (0, 3)


@given(tensors)
def test_the_safetensors_library_reads_what_we_write(values):
    found = safetensors.numpy.load(stream_of(values))
    assert found.keys() == values.keys()
    for name, value in values.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert found[name].tobytes() == value.tobytes()


@given(tensors)
def test_we_read_what_the_safetensors_library_writes(values):
    contiguous = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in values.items()}
    found = decode(safetensors.numpy.save(contiguous, metadata={"format": "np"}), canonical=False)
    assert found.keys() == values.keys()
    assert all(found[name].tobytes() == values[name].tobytes() for name in values)


@given(tensors)
def test_decoding_and_encoding_again_gives_the_same_bytes(values):
    first = stream_of(values)
    assert stream_of(decode(first)) == first


def test_the_library_reads_bfloat16():
    ((_, first), *_) = deserialize(stream_of({"x": np.array([1.5, -2], ml_dtypes.bfloat16)}))
    assert first["dtype"] == "BF16" and bytes(first["data"]) == b"\xc0?\x00\xc0"


def test_layout_in_memory_does_not_matter():
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = stream_of({"x": np.ascontiguousarray(grid.T)})
    assert stream_of({"x": grid.T}) == expected
    assert stream_of({"x": grid.T.astype(">f4")}) == expected


def test_contiguous_arrays_are_not_copied():
    values = np.ones(1000, np.float32)
    _, (data,) = encode({"x": values})
    values[0] = 7
    assert bytes(data[:4]) == np.float32(7).tobytes()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("x", np.zeros(1, np.complex64), "x cannot be shared: its dtype complex64"),
        ("x", np.array(["text"]), "x cannot be shared"),
        ("x", np.array([None]), "x cannot be shared"),
        ("x", RawTensor("BF16", (3,), b"12"), "2 bytes are not BF16"),
        ("x", RawTensor("F4", (1,), b"1"), "F4"),
        ("../x", np.zeros(1), "looks like a path"),
        ("__metadata__", np.zeros(1), "reserved"),
    ],
)
def test_what_the_stream_cannot_hold_is_named(name, value, words):
    with pytest.raises(NotStorable, match=words):
        encode({name: value})


HOSTILE = {
    "nothing": b"",
    "seven bytes": b"1234567",
    "huge header": stream({}, length=2**63),
    "header above the limit": stream({}, length=64 * 2**20 + 1),
    "header longer than the stream": stream({}, length=100),
    "not utf-8": stream(b"\xff\xff"),
    "not JSON": stream(b"{]"),
    "deep JSON": stream(b"[" * 100_000),
    "huge number": stream(b'{"a":' + b"9" * 5000 + b"}"),
    "no object": stream([]),
    "duplicate tensor": stream(b'{"a":%b,"a":%b}' % ((json.dumps(entry()).encode(),) * 2), bytes(4)),
    "duplicate field": stream(b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "missing field": stream({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "further field": stream({"a": entry() | {"more": 1}}, bytes(4)),
    "entry no object": stream({"a": 1}),
    "unknown dtype": stream({"a": entry("F128")}, bytes(4)),
    "dtype no text": stream({"a": entry(["F32"])}, bytes(4)),
    "negative size": stream({"a": entry(shape=(-1, -1))}, bytes(4)),
    "size no integer": stream({"a": entry(shape=(1.0,))}, bytes(4)),
    "size a bool": stream({"a": entry(shape=(True,))}, bytes(4)),
    "product overflows": stream({"a": entry(shape=(2**32, 2**32), stop=4)}, bytes(4)),
    "empty but unaddressable": stream({"a": entry(shape=(0, 2**62, 2**62), stop=0)}),
    "too many dimensions": stream({"a": entry(shape=(1,) * 65)}, bytes(4)),
    "claims a terabyte": stream({"a": entry(shape=(2**38,), stop=2**40)}, bytes(4)),
    "three offsets": stream({"a": entry() | {"data_offsets": [0, 4, 4]}}, bytes(4)),
    "offsets backwards": stream({"a": entry(start=4, stop=0)}, bytes(4)),
    "offsets too wide": stream({"a": entry(stop=8)}, bytes(8)),
    "overlap": stream({"a": entry(), "b": entry(start=2, stop=6)}, bytes(6)),
    "same data twice": stream({"a": entry(), "b": entry()}, bytes(4)),
    "gap": stream({"a": entry(), "b": entry(start=8, stop=12)}, bytes(12)),
    "gap at the begin": stream({"a": entry(start=4, stop=8)}, bytes(8)),
    "truncated": stream({"a": entry()}, bytes(3)),
    "more data than described": stream({"a": entry()}, bytes(5)),
    "parent directory": stream({"../../etc/passwd": entry()}, bytes(4)),
    "inner parent directory": stream({"a/../b": entry()}, bytes(4)),
    "backslashes": stream({"a\\..\\b": entry()}, bytes(4)),
    "absolute path": stream({"/etc/passwd": entry()}, bytes(4)),
    "NUL in a name": stream({"a\0b": entry()}, bytes(4)),
    "terminal escape in a name": stream({"\x1b[2J": entry()}, bytes(4)),
    "lone surrogate in a name": stream(b'{"\\ud800":%b}' % json.dumps(entry()).encode(), bytes(4)),
    "empty name": stream({"": entry()}, bytes(4)),
    "endless name": stream({"a" * 1025: entry()}, bytes(4)),
}
NOT_CANONICAL = {
    "data in another order": stream({"a": entry(start=4, stop=8), "b": entry()}, bytes(8)),
    "entries in another order": stream({"b": entry(start=4, stop=8), "a": entry()}, bytes(8)),
    "white space": stream(b'{"a": %b}' % json.dumps(entry()).encode(), bytes(4)),
    "escapes": stream(b'{"\\u0061":%b}' % json.dumps(entry(), separators=(",", ":")).encode(), bytes(4)),
    "metadata": stream({"__metadata__": {"x": "y"}, "a": entry()}, bytes(4)),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("canonical", [True, False])
def test_hostile_stream_is_refused_before_allocation(data, canonical):
    tracemalloc.start()
    with pytest.raises(StreamError):
        decode(data, canonical=canonical)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20 + 20 * len(data)


@pytest.mark.parametrize("data", NOT_CANONICAL.values(), ids=NOT_CANONICAL)
def test_another_form_of_the_same_is_refused_where_bytes_must_agree(data):
    with pytest.raises(StreamError):
        decode(data)
    assert "a" in decode(data, canonical=False)


@given(st.binary(max_size=200), st.integers(0, len(GOLDEN) - 1))
def test_damaged_bytes_are_refused_or_harmless(garbage, at):
    damaged = GOLDEN[:at] + garbage + GOLDEN[at + len(garbage) :]
    for data in (garbage, damaged, GOLDEN[:at]):
        try:
            decode(data, canonical=False)
        except StreamError:
            continue
        deserialize(data)  # the library must agree that it is whole


@pytest.mark.parametrize("name", ["overlap", "gap", "truncated", "huge header", "duplicate field"])
def test_the_library_refuses_these_too(name):
    with pytest.raises(SafetensorError):
        deserialize(HOSTILE[name])


def test_a_header_can_be_parsed_without_its_body():
    size = header_size_of(GOLDEN[:8], len(GOLDEN))
    specs = parse_header(GOLDEN[:size], len(GOLDEN))
    assert [(spec.name, spec.dtype, spec.shape) for spec in specs][1] == ("b.weight", "F32", (2, 1))
    assert specs[-1].stop == len(GOLDEN) - size


def test_a_header_that_is_cut_off_is_refused():
    with pytest.raises(StreamError, match="cut off"):
        parse_header(GOLDEN[:50], len(GOLDEN))


def test_every_dtype_has_a_size():
    assert len(ITEM_BYTES) == len(DTYPES) + 1
