"""Restores the random generators of a process: an evaluation must not affect the training."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def kept() -> Iterator[None]:
    """Restores those of ``random``, numpy and, if imported, torch, on the CPU and on GPUs that are in use."""
    of_python = random.getstate()
    of_numpy = np.random.get_state()  # the global one
    torch: Any = sys.modules.get("torch")
    of_torch = None if torch is None else torch.random.get_rng_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch is not None and torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        if of_torch is not None:
            torch.random.set_rng_state(of_torch)
        if on_gpus is not None:
            torch.cuda.set_rng_state_all(on_gpus)
