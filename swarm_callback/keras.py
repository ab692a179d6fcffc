"""SwarmCallback for Keras 3 and Keras 2 (tf_keras): a callback for ``model.fit``."""

import importlib
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from swarm_callback import keras_batches, keras_evaluation, keras_hooks, keras_weights
from swarm_callback.base import SwarmCallbackBase
from swarm_callback.errors import NoModel, UsageError
from swarm_callback.options import DEFAULT_CONTRACT, SAMPLES, Options
from swarm_callback.params import Tensor
from swarm_callback.replaced import tell_if_replaced


def _keras() -> Any:
    """The Keras that this script uses: tf_keras if TensorFlow uses it as tf.keras, or if only tf_keras is imported."""
    legacy = os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True")
    alone = "tf_keras" in sys.modules and "keras" not in sys.modules
    return importlib.import_module("tf_keras" if legacy or alone else "keras")


class _Hooks(_keras().callbacks.Callback):  # type: ignore[misc]
    """What ``fit`` of Keras 2 reads from callbacks, so that a Keras 3 callback also serves a Keras 2 model."""

    _supports_tf_logs = True
    _implements_train_batch_hooks = staticmethod(lambda: True)
    _implements_test_batch_hooks = staticmethod(lambda: False)
    _implements_predict_batch_hooks = staticmethod(lambda: False)


class SwarmCallback(SwarmCallbackBase, _Hooks):
    """``model.fit(..., callbacks=[SwarmCallback(syncFrequency, minPeers, ...)])``.

    The weights of the model are shared, trainable or not (frozen layers, BatchNormalization statistics), but not the
    states of random generators, metrics and the optimizer. A weight is named by its index in ``model.weights`` and the
    end of its path without the numbers that Keras adds, "0003/dense/kernel". So names are the same on every node,
    whatever the process built before. A model without an ``Input`` has its first merge after its first batch.

    ``adsValData``: (x, y), (x, y, sample_weight), or a dataset or generator that can be read repeatedly; one batch is
    tried before the first merge. Loss and metric are the loss and the first compiled metric of ``model.evaluate``.
    ``fit`` stops when the swarm's training is over.
    """

    PLATFORMS: ClassVar[tuple[str, ...]] = ("KERAS", "TF")
    RESETS_OPTIMIZERS: ClassVar[bool] = True
    COUNTS_EXAMPLES: ClassVar[bool] = True
    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = {
        "model": "fit says which it is",
        **dict.fromkeys(
            ("lossFunction", "lossFunctionArgs", "metricFunction", "metricFunctionArgs", "optimizer"),
            "the compiled model has its own",
        ),
        "hfMode": "share='trainable' gives the swarm only what is trained",
    }

    def __init__(
        self, syncFrequency: Any = None, minPeers: Any = None, trainingContract: Any = DEFAULT_CONTRACT, **options: Any
    ) -> None:
        super(SwarmCallbackBase, self).__init__()
        self._last_batch = -1
        self._counted_by = ""
        self._begin_later = False
        self._data: Any = None
        self._proximal = keras_hooks.ProximalTerm()
        self._batches: keras_batches.Batches | None = None
        self._seen = 0
        SwarmCallbackBase.__init__(self, syncFrequency, minPeers, trainingContract, **options)

    def verify_platform(self, options: Options) -> None:
        """Nothing to check: the model comes with ``fit``."""

    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        self._data = keras_evaluation.arguments(data, batch_size)

    def try_evaluation(self) -> bool:
        if self.model is None:
            return False
        if self._data is not None and self._options.evaluate is None:
            keras_evaluation.measured(self.model, self._data, batches=1)
        return True

    def no_trace(self) -> AbstractContextManager[None]:
        return keras_evaluation.no_trace(self._known_model)

    @property
    def trained_model(self) -> Any:
        return self.model

    def untrained(self) -> Collection[str]:
        return keras_weights.untrained(self._known_model)

    def extract_parameters(self) -> Mapping[str, Tensor]:
        return {name: keras_weights.read(weight) for name, weight in self._weights()}

    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        self._weights()
        keras_weights.load(self.model, tensors)
        if self._proximal.follow(tensors):
            keras_weights.forget_compiled(self.model)

    def examples_seen(self) -> int:
        return self._seen

    def reset_optimizer(self) -> None:
        keras_hooks.reset(self.model.optimizer, self.model.trainable_variables)

    def proximal_term(self, model: Any) -> Any:
        return self._proximal.of(model, self.merged_parameters)

    def evaluate(self) -> tuple[float, float | None]:
        return keras_evaluation.measured(self._known_model, self._data)

    def on_epoch_begin(self, epoch: Any, logs: Any = None) -> None:
        self._last_batch = -1

    def on_train_begin(self, logs: Any = None) -> None:
        self._look_at_those_that_come_later()
        self.batches_to_come = _batches_of(getattr(self, "params", None))  # Keras 2 sets them in fit
        if self._options.weighting == SAMPLES:
            self._batches = keras_batches.of_fit(self)
        self._begin_later = not _is_built(self._known_model)
        if self._begin_later:
            self.logger.info("The model has no Input: its first merge comes after its first batch")
        else:
            super().on_train_begin(logs)
            self._stop_when_over()

    def on_train_batch_end(self, batch: int | None, logs: Any = None) -> None:
        self._batch_ended(batch, "on_train_batch_end")

    def on_batch_end(self, batch: int | None = None, logs: Any = None) -> None:
        """The old name of ``on_train_batch_end``, for the user's own loops; if a loop calls both, it counts once."""
        self._batch_ended(batch, "on_batch_end")

    def _batch_ended(self, batch: int | None, by: str) -> None:
        self._counted_by = self._counted_by or by
        if by != self._counted_by:
            return
        done = 1
        if batch is not None:
            if batch <= self._last_batch:  # a new epoch without on_epoch_begin
                self._last_batch = -1
            done, first = batch - self._last_batch, self._last_batch + 1  # more than one with steps_per_execution
            self._last_batch = batch
            if self._batches is not None:
                self._seen += sum(self._batches.size_of(index) for index in range(first, batch + 1))
        if self._begin_later:
            self._begin_later = False
            super().on_train_begin()
        else:
            self.count_batches(done)
        self._stop_when_over()

    def _look_at_those_that_come_later(self) -> None:
        """Warns of later callbacks in the list that restore their own weights; checks the final model after them."""
        many, place = keras_batches.callbacks_of_fit(self)
        later = [one for one in many[place + 1 :] if type(one).__name__ not in {"History", "ProgbarLogger"}]
        for other in later:
            if getattr(other, "restore_best_weights", False):
                self.logger.warning(
                    "%s comes after SwarmCallback and puts its own best weights in place of the final model of the "
                    "swarm. Put SwarmCallback last in the list of callbacks",
                    type(other).__name__,
                )
        if later and not any(isinstance(one, _LastOfAll) for one in later):
            many.append(_LastOfAll(self, later))

    def _stop_when_over(self) -> None:
        if self.training_over:
            self.model.stop_training = True

    def _weights(self) -> Iterator[tuple[str, Any]]:
        if not keras_weights.weights_of(self._known_model):
            raise UsageError(problem="The model has no weights yet: it must be fitted, or built by calling it once")
        if keras_weights.backend() == "jax":  # there the weights of a running fit live outside the variables
            self.model.jax_state_sync()
        return keras_weights.named_weights(self.model)

    @property
    def _known_model(self) -> Any:
        if self.model is None:
            raise NoModel
        return self.model


class _LastOfAll(_Hooks):
    """Checks the model after all other callbacks have ended."""

    def __init__(self, swarm: SwarmCallback, later: list[Any]) -> None:
        super().__init__()
        self._swarm, self._later = swarm, later

    def on_train_end(self, logs: Any = None) -> None:
        tell_if_replaced(self._swarm, self._later)


def _batches_of(params: Any) -> int | None:
    """Batches of a whole ``fit``; None outside ``fit``, or if the data does not say how long it is."""
    epochs, steps = (params or {}).get("epochs"), (params or {}).get("steps")
    return epochs * steps if epochs and steps else None


def _is_built(model: Any) -> bool:
    """On TensorFlow, ``fit`` does not build a model without an Input until its first step."""
    return bool(model.built and keras_weights.weights_of(model) and all(layer.built for layer in model.layers))
