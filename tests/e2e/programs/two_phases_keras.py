"""Trains in two phases, first with a frozen layer; Keras computes with JAX on node 1, and with PyTorch on node 2."""

import os
import sys
from pathlib import Path

INDEX = int(os.environ["SWARM_NODE_INDEX"])
os.environ["KERAS_BACKEND"] = ("jax", "torch")[INDEX - 1]

import keras  # noqa: E402 - reads the variable
import numpy as np  # noqa: E402

from swarmlearning.tf import SwarmCallback  # noqa: E402

OUT = Path(sys.argv[1])


def main() -> None:
    random = np.random.default_rng(INDEX)
    x = random.normal(size=(64, 4)).astype(np.float32)
    data = x, (x.sum(axis=1) > 0).astype(np.int64)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "relu", trainable=False),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(2, "softmax"),
        ]
    )
    swarm = SwarmCallback(syncFrequency=4, minPeers=2, phases=2, adsValData=data, totalEpochs=4)
    for _ in range(2):
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(*data, batch_size=8, epochs=2, verbose=0, callbacks=[swarm])
        model.layers[0].trainable = True
    swarm.save_parameters(OUT / f"node-{INDEX}.safetensors")


if __name__ == "__main__":
    main()
