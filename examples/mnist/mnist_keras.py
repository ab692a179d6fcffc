"""Learns MNIST with Keras: alone with SWARM_LOOPBACK=true, or with others in a swarm."""

import examples.keras_settings  # noqa: F401, I001 - before Keras
import keras
import numpy as np

from examples.mnist.data import PIXELS, STEPS_PER_EPOCH, Examples, flat, load
from examples.run import Run
from swarmlearning.tf import SwarmCallback


def own_loader() -> Examples:
    """Downloads mnist.npz once, to ~/.keras."""
    (pictures, digits), (more_pictures, more_digits) = keras.datasets.mnist.load_data()
    return flat(np.concatenate([pictures, more_pictures])), np.concatenate([digits, more_digits]).astype(np.int64)


def build_model(steps: int) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((PIXELS,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=steps)
    model.compile(
        optimizer=keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def main() -> None:
    run = Run.of("mnist", epochs=20, sync_frequency=6)
    keras.utils.set_random_seed(run.seed)
    mnist = load(run.shard, run.count, own_loader)
    model = build_model(run.epochs * STEPS_PER_EPOCH)
    swarm = SwarmCallback(**run.swarm_options, adsValData=mnist.validation, adsValBatchSize=1000)
    model.fit(
        *mnist.train,
        batch_size=mnist.batch_size,
        epochs=run.epochs,
        initial_epoch=swarm.initial_epoch,
        verbose=0,
        callbacks=[swarm],
    )
    _, accuracy = model.evaluate(*mnist.test, batch_size=1000, verbose=0)
    run.finish(swarm, accuracy, "keras")


if __name__ == "__main__":
    main()
