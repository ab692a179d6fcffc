"""The parameter stream: one safetensors file in a canonical form, so that equal parameters are equal bytes.

8 bytes header length (little endian), a JSON header without spaces, padded with spaces to a multiple of 8, then
the tensors. Names sorted, data contiguous in that order, no ``__metadata__``. The reader is strict: a header is
checked whole, against the size of the stream, before anything is allocated for it.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarm_callback.digest import LENGTH_BYTES, MAX_HEADER_BYTES
from swarm_callback.errors import NotStorable, StreamError
from swarm_callback.nesting import deeper_than

_NUMPY: Final[dict[str, str]] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
    "BOOL": "|b1",
}  # fmt: skip
_TAGS: Final = {np.dtype(code): tag for tag, code in _NUMPY.items()}
ITEM_BYTES: Final = {tag: np.dtype(code).itemsize for tag, code in _NUMPY.items()} | {"BF16": 2}
_BFLOAT16: Final = "bfloat16"  # the name that ml_dtypes gives its dtype; numpy has none
_ALIGN_BYTES: Final = 8
_MAX_DEPTH: Final = 3  # tensors, the entry of one, its shape
_MAX_NAME_BYTES: Final = 1024
_MAX_RANK: Final = 64  # numpy's own limit
_MAX_ELEMENTS: Final = 2**60  # above this numpy cannot address an array, even an empty one


@dataclass(frozen=True)
class RawTensor:
    """A tensor of a dtype that numpy lacks (BF16). ``data``: little endian, C order, 2 bytes per element."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview | bytes | bytearray


Tensor = npt.NDArray[Any] | RawTensor


@dataclass(frozen=True)
class TensorSpec:
    """One entry of a header. ``start`` and ``stop`` are offsets into the body, after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def encode(tensors: Mapping[str, Tensor]) -> tuple[bytes, list[memoryview]]:
    """The header with its length, and the data of the tensors in the order of the stream. Arrays that are contiguous
    and little endian are not copied.

    Raises NotStorable, naming the tensor, for a dtype, shape or name that a stream cannot hold.
    """
    specs: list[TensorSpec] = []
    buffers: list[memoryview] = []
    offset = 0
    for name in sorted(tensors):
        dtype, shape, data = _raw(name, tensors[name])
        if (problem := _problem_of_name(name) or _problem_of_shape(shape)) is not None:
            raise NotStorable(name=name, problem=problem)
        specs.append(TensorSpec(name, dtype, shape, offset, offset + len(data)))
        buffers.append(data)
        offset += len(data)
    return encode_header(specs), buffers


def encode_header(specs: Iterable[TensorSpec]) -> bytes:
    """The header of a stream with these entries, preceded by its length."""
    entries = {
        spec.name: {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [spec.start, spec.stop]}
        for spec in specs
    }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGN_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one dtype hold the same values, bit by bit."""
    return _bytes(one) == _bytes(other)


def _bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.data) if isinstance(tensor, RawTensor) else np.ascontiguousarray(tensor).tobytes()


def stream_size(header: bytes, buffers: Iterable[Sized]) -> int:
    """Bytes of the whole stream."""
    return len(header) + sum(len(buffer) for buffer in buffers)


def decode(stream: memoryview | bytes | bytearray, *, canonical: bool = True) -> dict[str, Tensor]:
    """The tensors by name, as views into ``stream`` if their offset is aligned; BF16 as RawTensor.

    Raises StreamError, before anything is allocated.
    """
    view = memoryview(stream)
    header_size = header_size_of(view[:LENGTH_BYTES], len(view))
    specs = parse_header(view[:header_size], len(view), canonical=canonical)
    body = view[header_size:]
    return {spec.name: _tensor(spec, body[spec.start : spec.stop]) for spec in specs}


def header_size_of(start: memoryview | bytes, total_size: int) -> int:
    """Size in bytes of the header with its length, read from the first 8 bytes of a stream of ``total_size`` bytes.
    Raises StreamError.
    """
    if len(start) < LENGTH_BYTES:
        raise StreamError(problem=f"it has {len(start)} bytes, a stream has at least {LENGTH_BYTES}")
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise StreamError(problem=f"its header claims {length} bytes, {MAX_HEADER_BYTES} are allowed")
    if LENGTH_BYTES + length > total_size:
        raise StreamError(problem=f"its header claims {length} bytes, the whole stream has {total_size}")
    return LENGTH_BYTES + length


def parse_header(header: memoryview | bytes, total_size: int, *, canonical: bool = True) -> list[TensorSpec]:
    """The entries, in the order of their data. ``header`` includes its 8 length bytes; ``total_size`` is the
    size of the whole stream.

    ``canonical=False`` also accepts what other safetensors writers produce: another order of the entries and of the
    data, ``__metadata__``, other white space. Raises StreamError.
    """
    size = header_size_of(header, total_size)
    if len(header) < size:
        raise StreamError(problem=f"its header is cut off after {len(header)} of {size} bytes")
    entries = _parse_json(bytes(header[LENGTH_BYTES:size]))
    if not canonical:
        entries.pop("__metadata__", None)
    specs = [_spec(name, entry) for name, entry in entries.items()]
    specs.sort(key=lambda spec: (spec.start, spec.stop, spec.name))
    end = 0
    for spec in specs:
        if spec.start != end:
            fault = "overlaps the one before it" if spec.start < end else "leaves a gap before it"
            raise StreamError(problem=f"the data of {spec.name} {fault}")
        end = spec.stop
    if size + end != total_size:
        raise StreamError(problem=f"its header describes {size + end} bytes, but it has {total_size}")
    names = [spec.name for spec in specs]
    if canonical and (names != sorted(names) or encode_header(specs) != header[:size]):
        raise StreamError(problem="its header is not in the canonical form")
    return specs


def _parse_json(text: bytes) -> dict[str, Any]:
    if deeper_than(_MAX_DEPTH, text):
        raise StreamError(problem="its header is nested deeper than a header is")
    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise StreamError(problem=f"its header is not JSON ({error})") from None
    if not isinstance(entries, dict):
        raise StreamError(problem="its header is not a JSON object")
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise StreamError(problem="its header has the same key twice")
    return found


def _spec(name: str, entry: object) -> TensorSpec:
    if (problem := _problem_of_name(name)) is not None:
        raise StreamError(problem=f"the tensor name {name[:80]!r} is not allowed: {problem}")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise StreamError(problem=f"the entry of {name} has other fields than dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise StreamError(problem=f"the dtype {str(dtype)[:20]!r} of {name} is not known")
    if not _are_sizes(shape):
        raise StreamError(problem=f"the shape of {name} is not a list of sizes")
    if (problem := _problem_of_shape(shape)) is not None:
        raise StreamError(problem=f"the shape of {name} is not allowed: {problem}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise StreamError(problem=f"the offsets of {name} are not two sizes")
    start, stop = offsets
    needed = math.prod(shape) * ITEM_BYTES[dtype]
    if stop - start != needed:
        raise StreamError(problem=f"{name} needs {needed} bytes, its offsets give it {stop - start}")
    return TensorSpec(name, dtype, tuple(shape), start, stop)


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _problem_of_name(name: str) -> str | None:
    if not name or name == "__metadata__":
        return "it is empty or reserved"
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        return "it looks like a path"
    if not name.isprintable():
        return "it holds characters that cannot be shown"
    return "it is too long" if len(name.encode()) > _MAX_NAME_BYTES else None


def _problem_of_shape(shape: Iterable[int]) -> str | None:
    sizes = list(shape)
    if len(sizes) > _MAX_RANK:
        return f"it has {len(sizes)} dimensions, {_MAX_RANK} are allowed"
    return "it is too large" if math.prod(size for size in sizes if size) > _MAX_ELEMENTS else None


def _raw(name: str, tensor: Tensor) -> tuple[str, tuple[int, ...], memoryview]:
    """Dtype, shape and little-endian bytes of a tensor."""
    if isinstance(tensor, RawTensor):
        data = memoryview(tensor.data)
        size = ITEM_BYTES.get(tensor.dtype)
        if size is None or data.nbytes != math.prod(tensor.shape) * size:
            raise NotStorable(name=name, problem=f"{data.nbytes} bytes are not {tensor.dtype} of {tensor.shape}")
        return tensor.dtype, tuple(tensor.shape), _bytes_of(np.frombuffer(data, np.uint8) if data.nbytes else None)
    array = np.asarray(tensor)
    shape = array.shape
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.dtype.name == _BFLOAT16:
        return "BF16", shape, _bytes_of(_little_endian(flat.view(np.uint16)))
    flat = _little_endian(flat)
    tag = _TAGS.get(flat.dtype)
    if tag is None:
        raise NotStorable(name=name, problem=f"its dtype {array.dtype} cannot be merged")
    return tag, shape, _bytes_of(flat)


def _little_endian(flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return flat.astype(flat.dtype.newbyteorder("<"), copy=False)


def _bytes_of(flat: npt.NDArray[Any] | None) -> memoryview:
    return memoryview(b"") if flat is None or not flat.size else flat.view(np.uint8).data


def _tensor(spec: TensorSpec, data: memoryview) -> Tensor:
    if spec.dtype == "BF16":
        if sys.byteorder == "big":
            data = memoryview(np.frombuffer(data, "<u2").astype("=u2").tobytes())
        return RawTensor(spec.dtype, spec.shape, data)
    code = np.dtype(_NUMPY[spec.dtype])
    if not data:
        return np.empty(spec.shape, code)
    array = np.frombuffer(data, code).reshape(spec.shape)
    return array if array.flags.aligned else array.copy()
