"""The ML program of benchmarks.coordination: a model of 1 KB that is merged again and again, and nothing else.

Called as ``coordination_ml.py SYNCS DIRECTORY``; writes the time of each merged result (seconds of the system's
monotonic clock, the same for all processes) to ``DIRECTORY/<node index>.json``.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from swarm_callback.base import SwarmCallbackBase
from swarm_callback.options import Options
from swarm_callback.params import Tensor

FLOATS = 256  # 1 KB of float32


class TinyModel(SwarmCallbackBase):
    """One tensor; every load of merged parameters is timed."""

    PLATFORMS = ("NUMPY",)

    def verify_platform(self, options: Options) -> None:
        index = int(os.environ["SWARM_NODE_INDEX"])
        self.weights = np.full(FLOATS, index, np.float32)
        self.step = np.float32(1 + index)
        self.merged_at: list[float] = []

    def train(self) -> None:
        """One batch. Parameters that stayed as they were would be merged into what every node has already."""
        self.weights += self.step
        self.on_batch_end()

    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        """There is none."""

    def extract_parameters(self) -> Mapping[str, Tensor]:
        return {"weights": self.weights}

    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        self.merged_at.append(time.monotonic())
        self.weights[...] = np.asarray(tensors["weights"])

    def evaluate(self) -> tuple[float, float]:
        return 0.0, 0.0


def main() -> None:
    syncs, directory = int(sys.argv[1]), Path(sys.argv[2])
    callback = TinyModel(syncFrequency=1, minPeers=int(os.environ["SWARM_NODE_COUNT"]))
    callback.on_train_begin()
    for _ in range(syncs - 1):
        callback.train()
    times = list(callback.merged_at)
    callback.on_train_end()
    (directory / f"{os.environ['SWARM_NODE_INDEX']}.json").write_text(json.dumps(times))


if __name__ == "__main__":
    main()
