"""SwarmCallback for Keras 3 (and tf.keras, which is Keras 3 today): one more callback of ``model.fit``."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import keras
import numpy as np

from swarm_callback.base import SwarmCallbackBase
from swarm_callback.errors import ParameterError, UsageError
from swarm_callback.options import DEFAULT_CONTRACT, Options
from swarm_callback.params import RawTensor, Tensor

_AUTO_NUMBER = re.compile(r"_\d+$")  # Keras counts layers of a process: dense, dense_1, dense_2


class SwarmCallback(SwarmCallbackBase, keras.callbacks.Callback):  # type: ignore[misc]
    """``model.fit(..., callbacks=[SwarmCallback(syncFrequency, minPeers, ...)])``.

    Shared are the weights of the model, trainable or not (frozen layers, statistics of BatchNormalization), but not
    the states of random generators, metrics and the optimizer. A weight is named by its place in ``model.weights``
    and the end of its path without Keras's own numbers, "0003/dense/kernel": the same on every node, whatever was
    built before in the process. A model without an ``Input`` has its first merge after its first batch.
    ``adsValData``: (x, y), (x, y, sample_weight) or a dataset; loss and metric are the loss and the first metric of
    ``model.evaluate``. Fitting stops when the swarm's training is over.
    """

    PLATFORMS: ClassVar[tuple[str, ...]] = ("KERAS", "TF")

    def __init__(
        self, syncFrequency: Any = None, minPeers: Any = None, trainingContract: Any = DEFAULT_CONTRACT, **options: Any
    ) -> None:
        keras.callbacks.Callback.__init__(self)
        self._last_batch = -1
        self._begin_later = False
        self._data: Any = None
        self._batch_size: int | None = None
        SwarmCallbackBase.__init__(self, syncFrequency, minPeers, trainingContract, **options)

    def verify_platform(self, options: Options) -> None:
        if options.loss_function is not None or options.metric_function is not None:
            self.logger.info("lossFunction and metricFunction have no effect here: the compiled model has its own")

    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        if isinstance(data, (tuple, list)):
            if len(data) not in (2, 3):
                problem = "a tuple must be (x, y) or (x, y, sample_weight)"
                raise ParameterError(name="adsValData", value=f"{len(data)} values", problem=problem)
            x, y, weight = data if len(data) == 3 else (*data, None)
            self._data = {"x": x, "y": y, "sample_weight": weight, "batch_size": batch_size}
        elif isinstance(data, Iterator):
            problem = "it can be read only once, and each merge evaluates; give a dataset or (x, y)"
            raise ParameterError(name="adsValData", value=type(data).__name__, problem=problem)
        else:
            self._data = {"x": data}

    def extract_parameters(self) -> Mapping[str, Tensor]:
        return {name: _to_numpy(weight) for name, weight in self._weights()}

    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights():
            weight.assign(_to_array(tensors[name]))

    def evaluate(self) -> tuple[float, float]:
        with _kept_metrics(self.model):
            results = self.model.evaluate(**self._data, verbose=0, return_dict=True)
        loss = float(results.pop("loss"))
        return loss, float(next(iter(results.values()), 0.0))

    def on_epoch_begin(self, epoch: Any, logs: Any = None) -> None:
        self._last_batch = -1

    def on_train_begin(self, logs: Any = None) -> None:
        self._begin_later = not _is_built(self.model)
        if self._begin_later:
            self.logger.info("The model has no Input: its first merge comes after its first batch")
        else:
            super().on_train_begin(logs)
            self._stop_when_over()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        done, self._last_batch = batch - self._last_batch, batch  # more than one with steps_per_execution
        if self._begin_later:
            self._begin_later = False
            super().on_train_begin(logs)
        else:
            self.count_batches(done)
        self._stop_when_over()

    def _stop_when_over(self) -> None:
        if self.training_over:
            self.model.stop_training = True

    def _weights(self) -> Iterator[tuple[str, Any]]:
        if self.model is None or not self.model.weights:
            raise UsageError(problem="The model has no weights yet: it must be fitted, or built by calling it once")
        if _on("jax"):  # there the weights of a running fit live outside the variables
            self.model.jax_state_sync()
        for index, weight in enumerate(self.model.weights):
            tail = "/".join(_AUTO_NUMBER.sub("", part) for part in weight.path.split("/")[-2:])
            yield f"{index:04d}/{tail}", weight


def _is_built(model: Any) -> bool:
    """On TensorFlow, ``fit`` leaves a model without an Input as it is until its first step."""
    return bool(model.built and model.weights and all(layer.built for layer in model.layers))


@contextmanager
def _kept_metrics(model: Any) -> Iterator[None]:
    """``evaluate`` resets the metrics that the running epoch adds to."""
    variables = [variable for metric in model.metrics for variable in metric.variables]
    values = [_to_numpy(variable) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _to_numpy(variable: Any) -> np.ndarray[Any, Any]:
    """Not ``np.array(variable)``: the variables of Keras lack the copy argument that numpy 2 asks for."""
    value = variable.value
    array: np.ndarray[Any, Any] = value.numpy() if _on("tensorflow") else keras.ops.convert_to_numpy(value)
    return array


def _on(backend: str) -> bool:
    return bool(keras.backend.backend() == backend)


def _to_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    if not isinstance(tensor, RawTensor):
        return tensor
    import ml_dtypes  # noqa: PLC0415 - Keras brings it; only a bfloat16 model needs it

    return np.frombuffer(tensor.data, ml_dtypes.bfloat16).reshape(tensor.shape)
