"""Learns handwritten digits with Keras: alone with SWARM_LOOPBACK=true, or with others in a swarm."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow reports what it found at each start otherwise
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the same sums in the same order on every machine
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # several nodes share this machine, and the model is small

import keras
from data import STEPS_PER_EPOCH, Run

from swarmlearning.tf import SwarmCallback


def build_model(steps: int) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    )
    rate = keras.optimizers.schedules.CosineDecay(0.08, decay_steps=steps)
    model.compile(
        optimizer=keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def main() -> None:
    run = Run()
    keras.utils.set_random_seed(run.seed)
    digits = run.digits()
    model = build_model(run.epochs * STEPS_PER_EPOCH)
    swarm = SwarmCallback(
        syncFrequency=run.sync_frequency,
        minPeers=run.min_peers,
        trainingContract=run.contract,
        mergeMethod=run.merge_method,
        transferCompression=run.compression,
        useAdaptiveSync=run.adaptive,
        adsValData=digits.validation,
        adsValBatchSize=len(digits.validation[1]),
        totalEpochs=run.epochs,
    )
    pictures, labels = digits.train
    model.fit(
        pictures,
        labels,
        batch_size=digits.batch_size,
        epochs=run.epochs,
        initial_epoch=swarm.initial_epoch,  # where it was, if it was interrupted
        verbose=0,
        callbacks=[swarm],
    )
    _, accuracy = model.evaluate(*digits.test, batch_size=len(digits.test[1]), verbose=0)
    run.finish(swarm, accuracy, "keras")


if __name__ == "__main__":
    main()
