"""Learns to see pneumonia with Keras and FedBN: the frozen backbone and each hospital's own batch normalization stay
at home. Alone with SWARM_LOOPBACK=true, or with others in a swarm.
"""

import examples.keras_settings  # noqa: F401, I001 - before Keras
import keras

from examples.run import Run
from examples.xray.backbone import WIDTH, filters
from examples.xray.data import SIDE, STEPS_PER_EPOCH, load
from swarmlearning.tf import SwarmCallback


def build_model(steps: int) -> keras.Model:
    layers = keras.layers
    kernels = filters()
    backbone = layers.Conv2D(
        kernels.shape[-1], WIDTH, activation="relu", use_bias=False, trainable=False, name="backbone"
    )
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            backbone,
            layers.MaxPooling2D(2),
            layers.BatchNormalization(momentum=0.8, name="norm_first"),
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(momentum=0.8, name="norm_second"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    backbone.set_weights([kernels])
    rate = keras.optimizers.schedules.CosineDecay(0.01, decay_steps=steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    run = Run.of("xray", epochs=25, sync_frequency=3)
    keras.utils.set_random_seed(run.seed)
    xray = load(run.shard, run.count)
    print(f"The data: {xray.source}", flush=True)
    model = build_model(run.epochs * STEPS_PER_EPOCH)
    swarm = SwarmCallback(
        **run.swarm_options,
        keep_local=["*backbone*", "*norm_*"],
        adsValData=xray.train,  # small hospitals have no pictures to spare
        adsValBatchSize=64,
    )
    model.fit(
        *xray.train,
        batch_size=xray.batch_size,
        epochs=run.epochs,
        initial_epoch=swarm.initial_epoch,
        verbose=0,
        callbacks=[swarm],
    )
    _, accuracy = model.evaluate(*xray.test, batch_size=100, verbose=0)
    run.finish(swarm, accuracy, "keras")


if __name__ == "__main__":
    main()
