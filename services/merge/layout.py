"""The tensors of a parameter set, and the first difference between two sets."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.generic]

# How numpy holds each dtype of a safetensors header. numpy has no bfloat16: its bits are held as uint16.
STORAGE: Mapping[str, str] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
    "BOOL": "|b1",
}  # fmt: skip

ITEM_BYTES: Mapping[str, int] = {dtype: np.dtype(storage).itemsize for dtype, storage in STORAGE.items()}


@dataclass(frozen=True)
class TensorLayout:
    """``dtype`` is a key of STORAGE; ``()`` is the shape of a scalar."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        total = 1
        for extent in self.shape:
            total *= extent
        return total


Layout = Mapping[str, TensorLayout]


def difference(mine: Layout, my_name: str, theirs: Layout, their_name: str) -> str | None:
    """A sentence without a full stop on the first tensor (by name) that differs; None if all agree."""
    for name in sorted(mine.keys() | theirs.keys()):
        here, there = mine.get(name), theirs.get(name)
        if here is None:
            return f"{my_name} has no tensor {name}, which {their_name} has"
        if there is None:
            return f"{my_name} has a tensor {name}, which {their_name} has not"
        if here.shape != there.shape:
            return f"Tensor {name} has the shape {_shape(here)} on {my_name}, but {_shape(there)} on {their_name}"
        if here.dtype != there.dtype:
            return f"Tensor {name} has the dtype {here.dtype} on {my_name}, but {there.dtype} on {their_name}"
    return None


def _shape(spec: TensorLayout) -> str:
    return "[" + ", ".join(str(extent) for extent in spec.shape) + "]"
