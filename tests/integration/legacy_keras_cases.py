"""SwarmCallback for Keras 2 (tf_keras); test_callback_keras.py runs them with TF_USE_LEGACY_KERAS=1 and without."""

import logging
import os

import numpy as np
import pytest
from callback_swarm import Swarm, plus_one, stream_of

from swarm_callback import wire
from swarm_callback.errors import UsageError
from swarm_callback.params import decode

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")
DATA = (np.linspace(-1, 1, 80).reshape(20, 4).astype(np.float32), np.arange(20) % 2)


def legacy_keras():
    """As a script gets it: by name, or as TensorFlow's Keras."""
    if os.environ.get("TF_USE_LEGACY_KERAS"):
        import tensorflow as tf

        return tf.keras
    import tf_keras

    return tf_keras


def model(seed=0, built=True):
    keras = legacy_keras()
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Input((4,))] if built else []
    layers += [keras.layers.Dense(5, activation="relu"), keras.layers.BatchNormalization()]
    layers += [keras.layers.Dropout(0.5), keras.layers.Dense(2, activation="softmax")]
    made = keras.Sequential(layers)
    made.layers[0].trainable = False
    made.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


def callback_of(a_model, **options):
    from swarmlearning.tf import SwarmCallback

    callback = SwarmCallback(1, 1, logger=LOGGER, **options)
    callback.set_model(a_model)
    return callback


def test_a_model_of_keras_2_trains_in_a_swarm(serve, tmp_path):
    from swarmlearning.tf import SwarmCallback

    names: list[list[str]] = []

    def merge(body: bytes) -> bytes:
        names.append(list(decode(body)))
        return plus_one(body)

    swarm = Swarm(merge=merge)
    served = serve(swarm)
    callback = SwarmCallback(4, 1, adsValData=DATA, adsValBatchSize=20, logger=LOGGER, totalEpochs=2)
    model(1)  # so that the layers of the next model have other numbers
    trained = model()
    history = trained.fit(*DATA, batch_size=4, epochs=2, verbose=0, callbacks=[callback])
    served.result(DEADLINE_S)
    assert swarm.kinds() == ["Open", *["Sync", "Report"] * 3, "Close", "Report", "Bye"]
    assert (
        names
        == [
            [
                "0000/dense/kernel",
                "0001/dense/bias",
                "0002/batch_normalization/gamma",
                "0003/batch_normalization/beta",
                "0004/batch_normalization/moving_mean",
                "0005/batch_normalization/moving_variance",
                "0006/dense/kernel",
                "0007/dense/bias",
            ]
        ]
        * 4
    )
    loss, metric = trained.evaluate(*DATA, batch_size=20, verbose=0)
    assert (swarm.heard[-2].loss, swarm.heard[-2].metric) == pytest.approx((loss, metric))
    assert len(history.history["loss"]) == 2
    callback.save_parameters(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == swarm.final


def test_fitting_stops_when_the_training_of_the_swarm_is_over(serve):
    from swarmlearning.tf import SwarmCallback

    served = serve(Swarm(over_at=2))
    history = model().fit(*DATA, batch_size=4, epochs=50, verbose=0, callbacks=[SwarmCallback(4, 1, logger=LOGGER)])
    served.result(DEADLINE_S)
    assert len(history.history["loss"]) == 1


def test_a_model_that_is_not_built_merges_after_its_first_batch(serve):
    from swarmlearning.tf import SwarmCallback

    swarm = Swarm()
    served = serve(swarm)
    callback = SwarmCallback(4, 1, logger=LOGGER)
    model(built=False).fit(*DATA, batch_size=4, epochs=1, verbose=0, callbacks=[callback])
    served.result(DEADLINE_S)
    assert [kind for kind in swarm.kinds() if kind != "Report"] == ["Open", "Sync", "Sync", "Close", "Bye"]


def test_evaluation_for_the_swarm_leaves_the_metrics_of_the_epoch_alone(serve):
    from swarmlearning.tf import SwarmCallback

    def fit(callbacks):
        still = model()
        still.optimizer.learning_rate = 0.0
        return still.fit(*DATA, batch_size=4, epochs=1, shuffle=False, verbose=0, callbacks=callbacks).history

    alone = fit([])
    served = serve(Swarm(merge=bytes))
    callback = SwarmCallback(4, 1, adsValData=DATA, logger=LOGGER)
    assert fit([callback])["accuracy"] == pytest.approx(alone["accuracy"])
    served.result(DEADLINE_S)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_weights_make_the_round_trip_exactly(monkeypatch, dtype):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    keras = legacy_keras()

    def dense(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4, dtype=dtype)])

    source, target = callback_of(dense(1)), callback_of(dense(2))
    stream = stream_of(source)
    assert stream_of(target) != stream
    target.load_parameters(decode(stream))
    assert stream_of(target) == stream


def test_a_model_without_weights_is_refused_in_words(monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    keras = legacy_keras()
    with pytest.raises(UsageError, match="has no weights yet"):
        callback_of(keras.Sequential([keras.layers.Dense(1)])).extract_parameters()


def test_the_callback_is_one_of_the_keras_that_the_script_uses():
    from swarm_callback.keras import SwarmCallback

    if os.environ.get("TF_USE_LEGACY_KERAS"):
        assert issubclass(SwarmCallback, legacy_keras().callbacks.Callback)


@pytest.mark.parametrize("state", ["keep", "reset"])
def test_the_state_of_the_optimizer_is_kept_or_begins_anew_with_each_merge(serve, state):
    keras = legacy_keras()
    steps = []
    served = serve(Swarm())
    trained = model()
    trained.compile(keras.optimizers.Adam(0.25), "sparse_categorical_crossentropy")
    from swarmlearning.tf import SwarmCallback

    hook = {"on_merged": lambda *_: steps.append(int(trained.optimizer.iterations))}
    callback = SwarmCallback(4, 1, optimizerState=state, logger=LOGGER, **hook)
    trained.fit(*DATA, batch_size=4, epochs=2, verbose=0, callbacks=[callback])
    served.result(DEADLINE_S)
    assert steps == ([0, 4, 8, 10] if state == "keep" else [0, 0, 0, 2])
    assert float(trained.optimizer.learning_rate) == 0.25


def test_examples_are_counted_by_the_batches_of_fit(serve):
    from swarmlearning.tf import SwarmCallback

    swarm = Swarm()
    served = serve(swarm)
    callback = SwarmCallback(4, 1, nodeWeightage="samples", adsValData=DATA, logger=LOGGER)
    model().fit(*DATA, batch_size=8, epochs=2, verbose=0, callbacks=[callback])  # 8, 8, 4, twice
    served.result(DEADLINE_S)
    assert [m.examples for m in swarm.heard if isinstance(m, (wire.Sync, wire.Close))] == [0, 28, 12]
