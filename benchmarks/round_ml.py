"""The ML program of benchmarks.round and benchmarks.large: random float32, merged again and again, nothing trained.

Called as ``python -m benchmarks.round_ml BYTES WARM_UP ROUNDS SOCKET [METHOD [COMPRESSION]]``. It waits on the socket
for a line at each mark (enrolled, warm, measured), so that what is read there belongs to whole rounds; between marks
nothing holds it up.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swarm_callback.base import SwarmCallbackBase
from swarm_callback.digest import SEGMENT_BYTES, StreamDigest
from swarm_callback.options import Options
from swarm_callback.params import Tensor, encode

TENSORS = 10
IN_MEMORY_BYTES = 1 << 30
CHECKED = 1000  # values of each tensor that the benchmark computes itself


class Weights(SwarmCallbackBase):
    """``values``: what it gives, other random numbers on each node, and others in each segment each round."""

    PLATFORMS = ("NUMPY",)

    def verify_platform(self, options: Options) -> None:
        node = int(os.environ["SWARM_NODE_INDEX"])
        random = np.random.default_rng(node)
        room = _room(int(sys.argv[1]) // 4, node).reshape(TENSORS, -1)
        for part in room:
            random.random(dtype=np.float32, out=part)
        self.values = {f"layer-{index}": part for index, part in enumerate(room)}
        self.merged: Mapping[str, Tensor] = {}
        self.merged_at: list[float] = []

    def train(self) -> None:
        for values in self.values.values():
            values[:: SEGMENT_BYTES // 16] += np.float32(1)
        self.on_batch_end()

    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        """There is none."""

    def extract_parameters(self) -> Mapping[str, Tensor]:
        return self.values

    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        self.merged_at.append(time.monotonic())
        self.merged = tensors  # views, good until the next exchange

    def evaluate(self) -> tuple[float, float]:
        return 0.0, 0.0

    def checked(self, tensors: Mapping[str, Tensor]) -> list[float]:
        """The first, the last, and some between of each tensor."""
        found: list[float] = []
        for name in sorted(tensors):
            flat = np.asarray(tensors[name]).reshape(-1)
            found += flat[np.linspace(0, len(flat) - 1, CHECKED).astype(np.int64)].tolist()
        return found

    def digest(self) -> str:
        """Of the merged stream, as this program holds it."""
        taken = StreamDigest()
        header, data = encode(self.merged)
        for piece in (memoryview(header), *data):
            taken.update(piece)
        return taken.digest().hex()


def _room(count: int, node: int) -> npt.NDArray[np.float32]:
    """For about so many values, the same number for each tensor; many are in a file, which need not stay in memory."""
    count -= count % TENSORS
    if count * 4 < IN_MEMORY_BYTES:
        return np.empty(count, np.float32)
    return np.memmap(Path(sys.argv[4]).with_name(f"values-{node}"), np.float32, "w+", shape=(count,))


def main() -> None:
    warm_up, rounds, path = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        lines = line.makefile("rw")

        def mark(**facts: object) -> None:
            lines.write(json.dumps({"node": os.environ["SWARM_NODE_INDEX"], **facts}) + "\n")
            lines.flush()
            lines.readline()

        method, compression = [*sys.argv[5:], *("mean", "none")[len(sys.argv) - 5 :]]
        model = Weights(
            syncFrequency=1,
            minPeers=int(os.environ["SWARM_NODE_COUNT"]),
            mergeMethod=method,
            transferCompression=compression,
        )
        mark()
        model.on_train_begin()
        for _ in range(warm_up - 1):
            model.train()
        began = time.monotonic()
        mark()
        for _ in range(rounds):
            model.train()
        mark()  # the end of what is measured: what follows costs time
        mark(
            began=began, merged_at=model.merged_at[warm_up:], digest=model.digest(), gave=model.checked(model.values),
            merged=model.checked(model.merged),
        )  # fmt: skip
        model.on_train_end()


if __name__ == "__main__":
    main()
