"""Finds on the call stack what ``fit`` does not tell callbacks: the list of them, and how large its batches are."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from swarm_callback.errors import ParameterError
from swarm_callback.options import SAMPLES

_FRAMES_TO_FIT = 8


@dataclass(frozen=True)
class Batches:
    """``size``: examples in a batch; ``count``: batches in an epoch, 0 if unknown; ``last``: examples in the last
    batch.
    """

    size: int
    count: int
    last: int

    def size_of(self, index: int) -> int:
        """Examples in the batch with this index within an epoch."""
        return self.last if index + 1 == self.count else self.size


def callbacks_of_fit(one: Any) -> tuple[list[Any], int]:
    """The live list of callbacks of ``fit``, and the index of ``one`` in it; outside ``fit`` an empty list and 0."""
    for frame in _frames():
        many = getattr(frame.f_locals.get("self"), "callbacks", None)
        if isinstance(many, list) and any(other is one for other in many):
            return many, next(index for index, other in enumerate(many) if other is one)
    return [], 0


def of_fit(callback: Any) -> Batches:
    """Batch sizes of the running ``fit``. Raises ParameterError if the data does not state them."""
    for frame in _frames():
        # Keras 3 and Keras 2.
        handler = frame.f_locals.get("epoch_iterator", frame.f_locals.get("data_handler"))
        adapter = getattr(handler, "data_adapter", getattr(handler, "_adapter", None))
        if adapter is not None and frame.f_locals.get("self") is callback.model:
            size = _said(adapter, "batch_size")
            if size:
                count = _said(adapter, "num_batches", "get_size")
                return Batches(size, count, _said(adapter, "partial_batch_size") or size)
    problem = "this data does not say how large its batches are: give arrays with batch_size, or a number"
    raise ParameterError(name="nodeWeightage", value=SAMPLES, problem=problem)


def _said(adapter: Any, *names: str) -> int:
    """The value of the first of these attributes or methods that the adapter has; 0 if it gives no positive integer."""
    try:
        value = next((getattr(adapter, name) for name in names if hasattr(adapter, name)), 0)
        value = value() if callable(value) else value
    except NotImplementedError:
        return 0
    return value if isinstance(value, int) and value > 0 else 0


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_FRAMES_TO_FIT):
        if frame is None:
            return
        yield frame
        frame = frame.f_back
