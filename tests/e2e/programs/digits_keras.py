"""In the place of examples/digits/digits_keras.py, for tests of what is around it: a few numbers, no framework."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from swarm_callback.base import SwarmCallbackBase
from swarm_callback.options import Options
from swarm_callback.params import Tensor

OUT, NAME = Path(os.environ["OUTPUT_DIR"]), os.environ["RUN_NAME"]
INDEX, COUNT = int(os.environ["SWARM_NODE_INDEX"]), int(os.environ["SWARM_NODE_COUNT"])
BATCHES = 3


class Numbers(SwarmCallbackBase):
    PLATFORMS = ("NUMPY",)

    def verify_platform(self, options: Options) -> None:
        self.tensors = {"kernel": np.full((16, 4), INDEX, np.float32)}

    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        """Any will do."""

    def extract_parameters(self) -> Mapping[str, Tensor]:
        return self.tensors

    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = {name: np.array(value) for name, value in tensors.items()}

    def evaluate(self) -> tuple[float, float]:
        return 1.0, 0.5


def main() -> None:
    swarm = Numbers(syncFrequency=1, minPeers=COUNT, adsValData="any", totalEpochs=1)
    swarm.on_train_begin()
    for _ in range(BATCHES):
        swarm.tensors["kernel"] += np.float32(INDEX)
        swarm.on_batch_end()
    swarm.on_epoch_end()
    swarm.on_train_end()
    swarm.save_parameters(OUT / f"{NAME}.safetensors")
    (OUT / f"{NAME}.json").write_text(json.dumps({"name": NAME, "accuracy": float(np.mean(swarm.tensors["kernel"]))}))


main()
