"""A training program for tests of whole swarms: two tensors and a few rounds.

Called as ``train.py BEHAVIOUR OUT [ROUNDS]``; writes its final model to ``OUT/<SL's index>.safetensors``.
``until-told`` trains until there is a file ``OUT/enough``. ``fail``: the second node does, and all are needed;
``fail-spared``: the others are enough. ``lonely``: one more node is needed than there are.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from swarm_callback.base import SwarmCallbackBase
from swarm_callback.options import Options
from swarm_callback.params import Tensor

BEHAVIOUR, OUT = sys.argv[1], Path(sys.argv[2])
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 3
CONTRACT = os.environ.get("TRAINING_CONTRACT", "defaultbb.cqdb.sml.hpe")
INDEX, COUNT = int(os.environ["SWARM_NODE_INDEX"]), int(os.environ["SWARM_NODE_COUNT"])


class Numbers(SwarmCallbackBase):
    """Trains nothing; each node adds its own number, so that only a merge makes them equal."""

    PLATFORMS = ("NUMPY",)

    def verify_platform(self, options: Options) -> None:
        rng = np.random.default_rng(INDEX)
        self.tensors = {"kernel": rng.normal(size=(16, 4)).astype(np.float32), "count": np.array(INDEX, np.int64)}

    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        """Any will do."""

    def extract_parameters(self) -> Mapping[str, Tensor]:
        return self.tensors

    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = {name: np.array(value) for name, value in tensors.items()}

    def evaluate(self) -> tuple[float, float]:
        return 1.0 + INDEX, 0.5

    def train_a_batch(self) -> None:
        self.tensors["kernel"] += np.float32(INDEX)
        self.on_batch_end()


def goes_on(callback: Numbers, batches: int) -> bool:
    if BEHAVIOUR == "until-told":
        return not (callback.training_over or (OUT / "enough").exists())
    return batches < ROUNDS or BEHAVIOUR == "forever"


def main() -> None:
    if BEHAVIOUR == "never":
        return
    needed = COUNT + {"fail-spared": -1, "lonely": 1}.get(BEHAVIOUR, 0)
    callback = Numbers(syncFrequency=1, minPeers=needed, trainingContract=CONTRACT, adsValData="any", totalEpochs=1)
    callback.on_train_begin()
    batch = 0
    while goes_on(callback, batch):
        callback.train_a_batch()
        batch += 1
        if BEHAVIOUR in ("fail", "fail-spared") and INDEX == 1:
            raise SystemExit("The data of this node are missing.")
    callback.on_epoch_end()
    callback.on_train_end()
    callback.save_parameters(OUT / f"{INDEX}.safetensors")


main()
