"""Reusable blocks of memory, kept per thread: page faults of fresh memory would cost more than the arithmetic."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray


class _Kept(threading.local):
    def __init__(self) -> None:
        self.free: dict[tuple[str, int], list[NDArray[Any]]] = {}


_kept = _Kept()


def take(length: int, dtype: Any) -> NDArray[Any]:
    """A flat block with undefined content; give it back when it is no longer needed."""
    kind = np.dtype(dtype).char, max(0, length - 1).bit_length()
    free = _kept.free.setdefault(kind, [])
    block = free.pop() if free else np.empty(1 << kind[1], dtype)
    return block[:length]


def give(*blocks: NDArray[Any]) -> None:
    """Gives back blocks, exactly as ``take`` returned them."""
    for block in blocks:
        whole = block.base
        if isinstance(whole, np.ndarray):
            _kept.free.setdefault((whole.dtype.char, len(whole).bit_length() - 1), []).append(whole)
