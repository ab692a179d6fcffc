"""Learns to tell frauds with Keras: alone with SWARM_LOOPBACK=true, or with others in a swarm."""

import examples.keras_settings  # noqa: F401, I001 - before Keras
import keras

from examples.fraud.data import FEATURES, STEPS_PER_EPOCH, load
from examples.run import Run
from swarmlearning.tf import SwarmCallback

FRAUD_COUNTS = 8.0  # as much as so many honest rows: at most nodes it is rare


def build_model(steps: int) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(0.05, decay_steps=steps)
    model.compile(
        optimizer=keras.optimizers.SGD(rate, momentum=0.9),
        loss="binary_crossentropy",
        metrics=["accuracy", keras.metrics.AUC(name="auc")],
    )
    return model


def main() -> None:
    run = Run.of("fraud", epochs=15, sync_frequency=4, nodes=4)
    keras.utils.set_random_seed(run.seed)
    fraud = load(run.shard, run.count)
    print(f"The data: {fraud.source}; {len(fraud.train[1])} rows here, {int(fraud.train[1].sum())} frauds", flush=True)
    model = build_model(run.epochs * STEPS_PER_EPOCH)
    swarm = SwarmCallback(
        **run.swarm_options,
        nodeWeightage="samples",  # as one training on all rows would weigh them
        adsValData=fraud.validation,
        adsValBatchSize=512,
    )
    model.fit(
        *fraud.train,
        batch_size=fraud.batch_size,
        epochs=run.epochs,
        initial_epoch=swarm.initial_epoch,
        class_weight={0: 1.0, 1: FRAUD_COUNTS},
        verbose=0,
        callbacks=[swarm],
    )
    _, accuracy, auc = model.evaluate(*fraud.test, batch_size=512, verbose=0)
    run.finish(swarm, accuracy, "keras", auc=auc)


if __name__ == "__main__":
    main()
