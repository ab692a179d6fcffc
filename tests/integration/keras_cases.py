"""SwarmCallback for Keras; test_callback_keras.py runs these cases in separate processes."""

import importlib
import itertools
import logging
import os

import numpy as np
import pytest
from callback_swarm import Swarm, plus_one, stream_of

from swarm_callback import keras_weights, wire
from swarm_callback.errors import CannotEvaluate, ParameterError, Unsupported, UsageError
from swarm_callback.params import decode

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")


def keras_of_the_script():
    """tf_keras if a script of the original product gets it from TensorFlow."""
    return importlib.import_module("tf_keras" if os.environ.get("TF_USE_LEGACY_KERAS") else "keras")


def stream_values(callback):
    return {name: np.array(value) for name, value in callback.extract_parameters().items()}


def keras_model(number: int = 0, built: bool = True):
    keras = keras_of_the_script()

    keras.utils.set_random_seed(number)
    model = keras.Sequential(
        [
            *([keras.Input((4,))] if built else []),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


KERAS_DATA = (np.linspace(-1, 1, 80).reshape(20, 4).astype(np.float32), np.arange(20) % 2)
KERAS_NAMES = [
    "0000/dense/kernel",
    "0001/dense/bias",
    "0002/batch_normalization/gamma",
    "0003/batch_normalization/beta",
    "0004/batch_normalization/moving_mean",
    "0005/batch_normalization/moving_variance",
    "0006/dense/kernel",
    "0007/dense/bias",
]


def test_keras_trains_in_a_swarm(serve, tmp_path):
    from swarmlearning.tf import SwarmCallback

    names: list[list[str]] = []

    def merge(body: bytes) -> bytes:
        names.append(list(decode(body)))
        return plus_one(body)

    swarm = Swarm(merge=merge)
    served = serve(swarm)
    callback = SwarmCallback(4, 1, adsValData=KERAS_DATA, adsValBatchSize=20, logger=LOGGER, totalEpochs=2)
    keras_model(1)  # so that the layers of the next model have other numbers
    model = keras_model()
    history = model.fit(*KERAS_DATA, batch_size=4, epochs=2, verbose=0, callbacks=[callback])
    served.result(DEADLINE_S)
    assert swarm.kinds() == ["Open", *["Sync", "Report"] * 3, "Close", "Report", "Bye"]
    assert [message.epochs_done for message in swarm.heard if isinstance(message, wire.Sync)] == [0, 0, 1]
    assert names == [KERAS_NAMES] * 4
    loss, metric = model.evaluate(*KERAS_DATA, batch_size=20, verbose=0)
    assert (swarm.heard[-2].loss, swarm.heard[-2].metric) == pytest.approx((loss, metric))
    assert len(history.history["loss"]) == 2
    callback.save_parameters(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == swarm.final


def test_keras_stops_when_the_training_of_the_swarm_is_over(serve, tmp_path):
    from swarmlearning.tf import SwarmCallback

    swarm = Swarm(over_at=2)
    served = serve(swarm)
    callback = SwarmCallback(4, 1, logger=LOGGER)
    model = keras_model()
    history = model.fit(*KERAS_DATA, batch_size=4, epochs=50, verbose=0, callbacks=[callback])
    served.result(DEADLINE_S)
    assert len(history.history["loss"]) == 1
    assert swarm.kinds() == ["Open", "Sync", "Report", "Sync", "Report", "Bye"]
    callback.save_parameters(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == swarm.final


def test_a_keras_model_that_is_not_built_merges_after_its_first_batch(serve):
    from swarmlearning.tf import SwarmCallback

    swarm = Swarm()
    served = serve(swarm)
    callback = SwarmCallback(4, 1, adsValData=KERAS_DATA, logger=LOGGER)
    keras_model(built=False).fit(*KERAS_DATA, batch_size=4, epochs=1, verbose=0, callbacks=[callback])
    served.result(DEADLINE_S)
    assert swarm.kinds() == ["Open", *["Sync", "Report"] * 2, "Close", "Report", "Bye"]


def test_evaluation_for_the_swarm_leaves_the_metrics_of_the_epoch_alone(serve):
    from swarmlearning.tf import SwarmCallback

    def fit(callbacks):
        model = keras_model()
        model.optimizer.learning_rate = 0.0
        return model.fit(*KERAS_DATA, batch_size=4, epochs=1, shuffle=False, verbose=0, callbacks=callbacks).history

    alone = fit([])
    served = serve(Swarm(merge=bytes))
    callback = SwarmCallback(4, 1, adsValData=KERAS_DATA, logger=LOGGER)
    assert fit([callback])["accuracy"] == pytest.approx(alone["accuracy"])
    served.result(DEADLINE_S)


def recurrent_model():
    """A model that carries its state from batch to batch, and draws noise even in evaluation."""
    keras = keras_of_the_script()

    class Noise(keras.layers.GaussianNoise):
        def call(self, inputs, training=None):
            return super().call(inputs, training=True)

    keras.utils.set_random_seed(0)
    inputs = keras.layers.Input(batch_size=4, shape=(2, 2))
    states = keras.layers.Bidirectional(keras.layers.LSTM(3, stateful=True))(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(Noise(0.5)(states)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize("by", ["adsValData", "evaluate"])
def test_evaluation_for_the_swarm_leaves_states_and_random_generators_alone(loopback, by):
    model = recurrent_model()
    data = (KERAS_DATA[0].reshape(20, 2, 2), KERAS_DATA[1])

    def by_hand(given):
        return given.evaluate(*data, batch_size=4, verbose=0)

    of = {"adsValData": data, "adsValBatchSize": 4} if by == "adsValData" else {"evaluate": by_hand}
    callback = keras_callback(model, logger=LOGGER, **of)
    by_hand(model)
    layers = [layer for layer in keras_weights.layers_of(model) if isinstance(layer, keras_of_the_script().layers.LSTM)]

    def states():
        return [keras_weights.read(state).copy() for layer in layers for state in layer.states]

    before = states()
    assert any(state.any() for state in before)
    draws = [callback._measure()[0] for _ in range(2)]
    assert len(before) == 4
    assert all(np.array_equal(one, other) for one, other in zip(before, states(), strict=True))
    if keras_of_the_script().__name__ == "keras":  # Keras 2 has generators that nobody can set back
        assert draws[0] == draws[1]


def test_loopback_changes_nothing_in_a_keras_training(monkeypatch):
    from swarmlearning.tf import SwarmCallback

    def train(callbacks):
        model = keras_model()
        model.fit(*KERAS_DATA, batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
        return model.get_weights()

    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    alone = train([])
    for mine, its in zip(train([SwarmCallback(4, 1, logger=LOGGER)]), alone, strict=True):
        np.testing.assert_array_equal(mine, its)


def keras_callback(model, **options):
    from swarm_callback.keras import SwarmCallback

    callback = SwarmCallback(1, 1, **options)
    callback.set_model(model)
    return callback


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_keras_weights_make_the_round_trip_exactly(loopback, dtype):
    keras = keras_of_the_script()

    def model(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4, dtype=dtype), keras.layers.BatchNormalization(dtype=dtype)]
        )

    source, target = keras_callback(model(1)), keras_callback(model(2))
    stream = stream_of(source)
    assert stream_of(target) != stream
    target.load_parameters(decode(stream))
    assert stream_of(target) == stream


def test_what_was_extracted_stays_as_it_was_when_the_model_trains_on(loopback):
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    extracted = keras_callback(model).extract_parameters()
    before = {name: values.copy() for name, values in extracted.items()}
    model.fit(np.ones((2, 3)), np.ones(2), verbose=0)
    assert all(np.array_equal(extracted[name], values) for name, values in before.items())
    assert any((keras_callback(model).extract_parameters()[name] != values).any() for name, values in before.items())


def test_random_generators_and_other_state_of_keras_stay_at_home(loopback):
    keras = keras_of_the_script()

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.zeros((2, 3)), np.zeros(2), verbose=0)
    assert list(keras_callback(model).extract_parameters()) == ["0000/dense/kernel", "0001/dense/bias"]


def test_shared_keras_layers_travel_once(loopback):
    keras = keras_of_the_script()

    shared = keras.layers.Dense(3)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, shared(shared(inputs)))
    assert len(keras_callback(model).extract_parameters()) == 2


def test_a_keras_model_without_weights_is_refused_in_words(loopback):
    keras = keras_of_the_script()

    with pytest.raises(UsageError, match="has no weights yet"):
        keras_callback(keras.Sequential([keras.layers.Dense(1)])).extract_parameters()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ((1,), "adsValData is '1 values', but a tuple must be (x, y) or (x, y, sample_weight)"),
        (iter([1]), "adsValData is 'list_iterator', but it can be read only once"),
    ],
)
def test_validation_data_that_keras_cannot_use_is_refused(loopback, data, sentence):
    with pytest.raises(ParameterError) as refused:
        keras_callback(None, adsValData=data)
    assert sentence in str(refused.value)


def test_keras_validates_on_tuples_with_weights_and_on_datasets(loopback):
    keras = keras_of_the_script()
    import tensorflow as tf

    x, y = np.ones((4, 2), np.float32), np.ones(4, np.float32)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    expected = tuple(model.evaluate(x, y, verbose=0))
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    for data in ((x, y), (x, y, np.ones(4)), dataset):
        assert keras_callback(model, adsValData=data).evaluate() == pytest.approx(expected)


def test_arrays_for_validation_are_evaluated_in_batches_of_the_size_that_is_given(loopback):
    keras = keras_of_the_script()
    sizes = []

    def loss(wanted, given):
        sizes.append(len(given))
        return keras.losses.mean_squared_error(wanted, given)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", loss, run_eagerly=True)
    keras_callback(model, adsValData=KERAS_DATA, adsValBatchSize=8).evaluate()
    assert sizes == [8, 8, 4]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_normalization_computes_with_what_was_merged(loopback, compiled):
    keras = keras_of_the_script()

    data = np.random.default_rng(0).normal(3, 2, size=(64, 3)).astype(np.float32)
    norm = keras.layers.Normalization()
    norm.adapt(data)
    model = keras.Sequential([keras.Input((3,)), keras.Sequential([norm]), keras.layers.Dense(1)])
    callback = keras_callback(model)
    if compiled:
        model.compile("sgd", "mse")
    before = model.predict(data, verbose=0)
    merged = {name: value + value.dtype.type("mean" in name) for name, value in callback.extract_parameters().items()}
    callback.load_parameters(merged)
    live = model.predict(data, verbose=0)
    assert not np.allclose(live, before)
    mean, variance, _, kernel, bias = merged.values()
    np.testing.assert_allclose(live, (data - mean) / np.sqrt(variance) @ kernel + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # caused by Keras itself when it saves
@pytest.mark.parametrize("of", ["adapted", "batches", "spectral"])
def test_a_merged_model_computes_as_it_does_when_it_is_saved_and_read_again(loopback, tmp_path, of):
    keras = keras_of_the_script()

    keras.utils.set_random_seed(0)
    data = np.random.default_rng(0).normal(3, 2, size=(64, 3)).astype(np.float32)
    makes = {
        "adapted": keras.layers.Normalization,
        "batches": keras.layers.BatchNormalization,
        "spectral": lambda: keras.layers.SpectralNormalization(keras.layers.Dense(3)),
    }
    layer = makes[of]()
    if of == "adapted":
        layer.adapt(data)
    model = keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(1)])
    callback = keras_callback(model)
    before = model.predict(data, verbose=0)
    callback.load_parameters({name: value + value.dtype.type(1) for name, value in stream_values(callback).items()})
    live = model.predict(data, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").predict(data, verbose=0)
    np.testing.assert_array_equal(live, again)
    assert not np.allclose(live, before)


def _epochs_that_nobody_announces(callback):
    for epoch in range(3):
        for batch in range(10):
            callback.on_train_batch_end(batch)
        callback.on_epoch_end(epoch)


def _batches_without_a_number(callback):
    for _ in range(30):
        callback.on_train_batch_end(None)


def _the_old_name(callback):
    for batch in range(30):
        callback.on_batch_end(batch % 10)


def _a_list_of_callbacks(callback):
    many = keras_of_the_script().callbacks.CallbackList([callback], model=callback.model)
    for epoch in range(3):
        many.on_epoch_begin(epoch)
        for batch in range(10):
            many.on_train_batch_begin(batch)
            many.on_train_batch_end(batch)
        many.on_epoch_end(epoch)


def _both_names(callback):
    for epoch in range(3):
        callback.on_epoch_begin(epoch)
        for batch in range(10):
            callback.on_batch_end(batch)
            callback.on_train_batch_end(batch)


@pytest.mark.parametrize(
    "loop",
    [_epochs_that_nobody_announces, _batches_without_a_number, _the_old_name, _both_names, _a_list_of_callbacks],
)
def test_a_loop_of_ones_own_merges_as_often_as_fit(serve, loop):
    from swarmlearning.tf import SwarmCallback

    swarm = Swarm()
    served = serve(swarm)
    callback = SwarmCallback(5, 1, logger=LOGGER)
    callback.set_model(keras_model())
    callback.on_train_begin()
    loop(callback)
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert swarm.kinds().count("Sync") == 1 + 6


@pytest.mark.parametrize(("frequency", "told"), [(10, False), (11, True)])
def test_an_interval_that_is_longer_than_the_fit_is_said_when_it_begins(loopback, caplog, frequency, told):
    keras = keras_of_the_script()
    from swarm_callback.keras import SwarmCallback

    swarm = SwarmCallback(frequency, 1, logger=LOGGER)
    seen = []
    look = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: seen.extend(caplog.messages))
    keras_model().fit(*KERAS_DATA, batch_size=4, epochs=2, verbose=0, callbacks=[look, swarm])  # 10 batches
    words = "There will be no merge between begin and end: 10 batches, syncFrequency 11"
    assert (words in seen) == told
    assert sum("no merge between" in message for message in caplog.messages) == told


@pytest.mark.parametrize(("last", "told"), [(False, True), (True, False)])
def test_a_callback_that_replaces_the_final_model_is_named(loopback, caplog, last, told):
    keras = keras_of_the_script()

    from swarm_callback.keras import SwarmCallback

    stopping = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    swarm = SwarmCallback(4, 1, logger=LOGGER)
    keras_model().fit(*KERAS_DATA, verbose=0, callbacks=[stopping, swarm] if last else [swarm, stopping])
    assert any("Put SwarmCallback last" in message for message in caplog.messages) == told


@pytest.mark.parametrize("changes", [True, False])
def test_a_callback_of_ones_own_that_replaces_the_final_model_is_named(serve, caplog, changes):
    keras = keras_of_the_script()

    from swarmlearning.tf import SwarmCallback

    class Average(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            if changes:
                self.model.set_weights([weight / 2 for weight in self.model.get_weights()])

    served = serve(Swarm())
    swarm = SwarmCallback(4, 1, logger=LOGGER)
    keras_model().fit(*KERAS_DATA, verbose=0, callbacks=[swarm, Average()])
    served.result(DEADLINE_S)
    told = [message for message in caplog.messages if "no longer the final model" in message]
    assert [("one of Average" in message) for message in told] == [True] * changes


def test_a_loop_that_forgets_the_model_is_told(loopback):
    from swarm_callback.keras import SwarmCallback

    with pytest.raises(UsageError, match=r"call set_model\(model\) before on_train_begin"):
        SwarmCallback(5, 1, logger=LOGGER).on_train_begin()


class Batches:
    """An iterator that can be read repeatedly, like those of ImageDataGenerator."""

    def __len__(self):
        return 5

    def __iter__(self):
        return self

    def __next__(self):
        return self[0]

    def __getitem__(self, index):
        return KERAS_DATA[0][4 * index : 4 * index + 4], KERAS_DATA[1][4 * index : 4 * index + 4]


def forms_of_data():
    keras = keras_of_the_script()
    import tensorflow as tf

    class Sequence(getattr(keras.utils, "PyDataset", keras.utils.Sequence)):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return Batches()[index]

    image = tf.keras.preprocessing.image.ImageDataGenerator()
    flow = image.flow(np.zeros((20, 2, 2, 1), np.float32), KERAS_DATA[1], batch_size=4)
    generator = tf.data.Dataset.from_generator(
        lambda: (Batches()[index] for index in range(5)),
        output_signature=(tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((None,), tf.int64)),
    )
    dataset = tf.data.Dataset.from_tensor_slices(KERAS_DATA).batch(4)

    class Readable:
        """Data of a class that Keras does not know."""

        def __len__(self):
            return 5

        def __iter__(self):
            return (Batches()[index] for index in range(5))

    class Endless(Readable):
        """A generator that starts over by itself."""

        def __init__(self):
            self.of = itertools.cycle(super().__iter__())

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.of)

    return {
        "dataset": dataset,
        "iterable with a length": Readable(),
        "generator with a length": Endless(),
        "sequence": Sequence(),
        "flow": flow,
        "of unknown length": generator,
        "lists": list(KERAS_DATA),
    }


@pytest.mark.parametrize(
    "form",
    ["dataset", "sequence", "of unknown length", "lists", "iterable with a length", "generator with a length"],
)
def test_keras_validates_on_whatever_can_be_read_again(loopback, form):
    model = keras_model()
    callback = keras_callback(model, adsValData=forms_of_data()[form])
    wanted = pytest.approx(tuple(model.evaluate(*KERAS_DATA, batch_size=4, verbose=0)), rel=1e-4)
    assert callback.evaluate() == wanted
    assert callback.evaluate() == wanted


def test_keras_validates_on_the_iterators_of_image_data_generator(loopback):
    keras = keras_of_the_script()

    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    callback = keras_callback(model, adsValData=forms_of_data()["flow"], adsValBatchSize=4)
    assert callback.evaluate()[0] == pytest.approx(np.log(2), rel=1e-4)


def test_data_without_an_end_is_refused(loopback):
    import tensorflow as tf

    with pytest.raises(ParameterError, match=r"it has no end; leave out repeat\(\)"):
        keras_callback(None, adsValData=tf.data.Dataset.from_tensor_slices(KERAS_DATA).batch(4).repeat())


def _not_in_batches():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(KERAS_DATA)


@pytest.mark.parametrize(
    "data",
    [
        KERAS_DATA[0],
        (KERAS_DATA[0], KERAS_DATA[1][:7]),
        (KERAS_DATA[0][:, :2], KERAS_DATA[1]),
        (None, None),
        {"x": KERAS_DATA[0], "y": KERAS_DATA[1]},
        _not_in_batches,
    ],
)
def test_data_that_the_model_does_not_take_is_refused_before_the_first_round(serve, data):
    from swarmlearning.tf import SwarmCallback

    data = data() if callable(data) else data

    swarm = Swarm()
    served = serve(swarm)
    callback = SwarmCallback(4, 1, adsValData=data, logger=LOGGER)
    with pytest.raises(CannotEvaluate, match="adsValData cannot be evaluated with this model"):
        keras_model().fit(*KERAS_DATA, verbose=0, callbacks=[callback])
    served.result(DEADLINE_S)
    assert swarm.kinds() == ["Open", "Abort"]


def autoencoder(tested: bool):
    """A model with its own training step, as in the guides of Keras: its loss has another name and is not compiled."""
    keras = keras_of_the_script()
    import tensorflow as tf

    class Autoencoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.both = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
            self.total = keras.metrics.Mean(name="total_loss")

        @property
        def metrics(self):
            return [self.total]

        def call(self, data):
            return self.both(data)

        def train_step(self, data):
            return self._step(data[0])

        def _step(self, inputs):
            self.total.update_state(tf.reduce_mean(tf.square(self(inputs) - inputs)))
            return {"total_loss": self.total.result()}

    if tested:
        Autoencoder.test_step = Autoencoder.train_step
    keras.utils.set_random_seed(0)
    model = Autoencoder()
    model.compile("sgd")
    model(KERAS_DATA[0])
    return model


def test_a_model_with_steps_of_its_own_reports_its_own_loss(loopback):
    model = autoencoder(tested=True)
    outputs = np.asarray(model(KERAS_DATA[0]))
    callback = keras_callback(model, adsValData=(KERAS_DATA[0], KERAS_DATA[0]))
    assert callback.evaluate()[0] == pytest.approx(float(np.mean((outputs - KERAS_DATA[0]) ** 2)), rel=1e-4)


def test_a_model_that_cannot_be_evaluated_is_refused_before_the_first_round(loopback):
    model = autoencoder(tested=False)
    callback = keras_callback(model, adsValData=(KERAS_DATA[0], KERAS_DATA[0]))
    with pytest.raises(CannotEvaluate, match=r"cannot be evaluated with this model .*or a function evaluate="):
        callback.on_train_begin()
    evaluated = keras_callback(model, evaluate=lambda given: (0.5, 0.25) if given is model else None)
    evaluated.on_train_begin()  # and whatever cannot be evaluated has its own function


def test_parameters_of_other_platforms_are_told_to_have_no_effect(loopback, caplog):
    keras_callback(
        keras_model(), lossFunction="MSELoss", metricFunction="Accuracy", hfMode="peft", sess=object(), logger=LOGGER
    )
    assert [message for message in caplog.messages if message.startswith("No effect here")] == [
        "No effect here: sess (there are no sessions of TensorFlow 1)",
        "No effect here: lossFunction, metricFunction (the compiled model has its own)",
        "No effect here: hfMode (share='trainable' gives the swarm only what is trained)",
    ]


def test_the_metric_is_the_first_compiled_one_and_never_a_part_of_the_loss(loopback):
    keras = keras_of_the_script()

    inputs = keras.Input((4,))
    outputs = {
        "kind": keras.layers.Dense(2, "softmax", name="kind")(inputs),
        "age": keras.layers.Dense(1, name="age")(inputs),
    }
    model = keras.Model(inputs, outputs)
    losses = {"kind": "sparse_categorical_crossentropy", "age": "mse"}
    model.compile("sgd", losses, metrics={"kind": ["accuracy"], "age": ["mae"]})
    wanted = {"kind": KERAS_DATA[1], "age": 100 + KERAS_DATA[0][:, :1]}
    callback = keras_callback(model, adsValData=(KERAS_DATA[0], wanted))
    truth = model.evaluate(KERAS_DATA[0], wanted, verbose=0, return_dict=True)
    assert callback.evaluate() == pytest.approx((truth["loss"], truth["kind_accuracy"]))


def test_a_metric_for_each_class_counts_as_their_mean(loopback):
    keras = keras_of_the_script()

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=[keras.metrics.F1Score(average=None)])
    data = (KERAS_DATA[0], keras.utils.to_categorical(KERAS_DATA[1], 2))
    truth = model.evaluate(*data, verbose=0, return_dict=True)["f1_score"]
    assert keras_callback(model, adsValData=data).evaluate()[1] == pytest.approx(float(np.mean(truth)))


def test_scripts_of_the_original_product_find_their_import():
    from swarm_callback import keras
    from swarmlearning import tf

    assert tf.SwarmCallback is keras.SwarmCallback


def adam_model():
    keras = keras_of_the_script()

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.25), "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize("state", ["keep", "reset"])
def test_the_state_of_the_optimizer_is_kept_or_begins_anew_with_each_merge(serve, state):
    from swarmlearning.tf import SwarmCallback

    steps = []
    served = serve(Swarm())
    model = adam_model()
    hook = {"on_merged": lambda *_: steps.append(int(model.optimizer.iterations))}
    callback = SwarmCallback(4, 1, optimizerState=state, logger=LOGGER, **hook)
    model.fit(*KERAS_DATA, batch_size=4, epochs=2, verbose=0, callbacks=[callback])
    served.result(DEADLINE_S)
    # First merge, after 4 and 8 of 10 batches, and the last, which leaves the optimizer alone.
    assert steps == ([0, 4, 8, 10] if state == "keep" else [0, 0, 0, 2])
    assert float(model.optimizer.learning_rate) == 0.25


def test_mixed_precision_shares_what_it_trains_and_its_optimizer_begins_anew(serve):
    keras = keras_of_the_script()

    from swarmlearning.tf import SwarmCallback

    swarm = Swarm()
    served = serve(swarm)
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = adam_model()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    steps = []
    hook = {"on_merged": lambda *_: steps.append(int(model.optimizer.inner_optimizer.iterations))}
    callback = SwarmCallback(4, 1, optimizerState="reset", adsValData=KERAS_DATA, logger=LOGGER, **hook)
    model.fit(*KERAS_DATA, batch_size=4, epochs=2, verbose=0, callbacks=[callback])
    served.result(DEADLINE_S)
    assert {str(value.dtype) for value in decode(bytearray(swarm.final)).values()} == {"float32"}
    assert steps[:3] == [0, 0, 0]
    assert all(np.isfinite(merge.loss) for merge in callback.history)


def test_the_proximal_term_holds_a_compiled_training_near_the_newest_merged_model(serve):
    keras = keras_of_the_script()

    from swarmlearning.tf import SwarmCallback

    served = serve(Swarm())
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    callback = SwarmCallback(4, 1, logger=LOGGER)
    model.compile(keras.optimizers.SGD(0.5), loss=lambda y, p: 0.0 * p[:, 0] + callback.proximal_term(model))
    x, y = KERAS_DATA
    callback.set_model(model)
    callback.on_train_begin()
    kernel = model.layers[0].kernel
    merged = keras_weights.read(kernel).copy()
    for _ in range(2):
        kernel.assign(merged + 2.0)
        model.fit(x, y, batch_size=20, verbose=0)
        # Half way back: the gradient of half the squared distance is the distance, which is 2.
        assert keras_weights.read(kernel) == pytest.approx(merged + 1.0, abs=1e-6)
        callback.count_batches(4)  # adds 1
        merged = keras_weights.read(kernel).copy()
    callback.on_train_end()
    served.result(DEADLINE_S)


def test_a_proximal_term_on_another_backend_is_refused_in_words(loopback, monkeypatch):
    monkeypatch.setattr(keras_weights, "backend", lambda: "jax")
    with pytest.raises(Unsupported, match="for Keras on TensorFlow only"):
        keras_callback(keras_model()).proximal_term(keras_model())


def test_two_phases_of_fit_are_one_training_with_and_without_a_frozen_layer(serve):
    from swarmlearning.tf import SwarmCallback

    swarm = Swarm()
    served = serve(swarm)
    callback = SwarmCallback(4, 1, phases=2, adsValData=KERAS_DATA, logger=LOGGER)
    model = keras_model()
    model.fit(*KERAS_DATA, batch_size=4, epochs=1, verbose=0, callbacks=[callback])  # 5 batches
    model.layers[0].trainable = True
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*KERAS_DATA, batch_size=4, epochs=1, verbose=0, callbacks=[callback])
    served.result(DEADLINE_S)
    told = [kind for kind in swarm.kinds() if kind != "Report"]
    assert told == ["Open", "Sync", "Sync", "Sync", "Sync", "Close", "Bye"]  # begin, 4, end of phase, 4, end
    assert stream_of(callback) == swarm.final


def test_examples_are_counted_by_the_batches_of_fit(serve):
    from swarmlearning.tf import SwarmCallback

    swarm = Swarm()
    served = serve(swarm)
    callback = SwarmCallback(4, 1, nodeWeightage="samples", adsValData=KERAS_DATA, logger=LOGGER)
    keras_model().fit(*KERAS_DATA, batch_size=8, epochs=2, verbose=0, callbacks=[callback])  # 8, 8, 4, twice
    served.result(DEADLINE_S)
    assert [m.examples for m in swarm.heard if isinstance(m, (wire.Sync, wire.Close))] == [0, 28, 12]


def test_data_without_a_batch_size_is_refused_for_weights_by_examples(loopback):
    import tensorflow as tf

    from swarmlearning.tf import SwarmCallback

    data = tf.data.Dataset.from_tensor_slices(KERAS_DATA).batch(8)
    with pytest.raises(ParameterError, match="this data does not say how large its batches are"):
        keras_model().fit(
            data, shuffle=False, verbose=0, callbacks=[SwarmCallback(4, 1, nodeWeightage="samples", logger=LOGGER)]
        )
