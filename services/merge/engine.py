"""The merge: sets are checked in one place, then read and merged block by block, each element once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.merge.errors import LayoutDiffers, NothingToMerge, UnknownMethod
from services.merge.layout import STORAGE, Layout, TensorSpec, difference
from services.merge.mean import Block, Mean, as_float, mean_of

# Eight such blocks of float32 and a float64 accumulator stay in a core's cache.
BLOCK_ELEMENTS = 65_536

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})

# method -> (dtype -> merge of one block). A method that needs more than the block at hand gets another table.
METHODS: Mapping[str, Callable[[str], Mean]] = {"mean": mean_of}


@dataclass(frozen=True)
class ParameterSet:
    """One participant's parameters. ``tensors`` hold the storage dtype of their spec, in its shape or flat."""

    name: str
    weight: int
    layout: Layout
    tensors: Mapping[str, Block]


@dataclass(frozen=True)
class NonFinite:
    """A set that holds NaN or infinity, and the first tensor by name in which it does."""

    name: str
    tensor: str


def check_method(method: str) -> None:
    """Raises UnknownMethod, naming those there are."""
    if method not in METHODS:
        raise UnknownMethod(method, tuple(METHODS))


def merge(
    method: str,
    sets: Sequence[ParameterSet],
    write: Callable[[memoryview], object],
    *,
    block_elements: int = BLOCK_ELEMENTS,
) -> tuple[NonFinite, ...]:
    """Writes the merged tensors' bytes, little endian, tensor after tensor in the order of their names.

    Reads every set once, ``block_elements`` elements at a time; holds one block per set and one of the result. The
    result depends neither on the block size nor on the order of ``sets``: they are taken in the order of their
    names. Where the return value is not empty, what was written is not a result: those sets hold NaN or
    infinity and are to be left out. Raises UnknownMethod, NothingToMerge, LayoutDiffers.
    """
    check_method(method)
    ordered = _checked(sets)
    weights = [entry.weight for entry in ordered]
    not_finite: dict[str, str] = {}
    for tensor, spec in sorted(ordered[0].layout.items()):
        flat = [entry.tensors[tensor].reshape(-1) for entry in ordered]
        merge_block = METHODS[method](spec.dtype)
        for start in range(0, spec.count, block_elements):
            blocks = [values[start : start + block_elements] for values in flat]
            result = merge_block(blocks, weights)
            if spec.dtype in FLOATS and not _finite(spec, result):
                # A non-finite input shows in the result, so the inputs are looked at only here.
                for entry, block in zip(ordered, blocks, strict=True):
                    if not _finite(spec, block):
                        not_finite.setdefault(entry.name, tensor)
            write(result.view(np.uint8).data)
    return tuple(NonFinite(name, tensor) for name, tensor in sorted(not_finite.items()))


def _finite(spec: TensorSpec, block: Block) -> bool:
    return bool(np.isfinite(as_float(spec.dtype, block)).all())


def _checked(sets: Sequence[ParameterSet]) -> list[ParameterSet]:
    ordered = sorted(sets, key=lambda entry: entry.name)
    if not ordered:
        raise NothingToMerge("there is no parameter set to merge")
    if len({entry.name for entry in ordered}) < len(ordered):
        raise NothingToMerge("two parameter sets have the same name")
    if any(entry.weight < 0 for entry in ordered) or sum(entry.weight for entry in ordered) < 1:
        raise NothingToMerge("the weights are negative or add up to nothing")
    first = ordered[0]
    for entry in ordered:
        differs = difference(entry.layout, entry.name, first.layout, first.name) or _form_differs(entry)
        if differs is not None:
            raise LayoutDiffers(differs)
    return ordered


def _form_differs(entry: ParameterSet) -> str | None:
    """Whether the arrays are what the layout says they are."""
    for tensor, spec in entry.layout.items():
        if spec.dtype not in STORAGE:
            return f"Tensor {tensor} of {entry.name} has the dtype {spec.dtype}, which no merge knows"
        values = entry.tensors.get(tensor)
        if values is None or values.size != spec.count or values.dtype != np.dtype(STORAGE[spec.dtype]):
            return f"Tensor {tensor} of {entry.name} is not what its layout says"
    return None
