"""Loss and metric of a Keras model on validation data, whatever form the data has."""

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np

from swarm_callback import keras_weights
from swarm_callback.errors import ParameterError

MAX_BATCHES_WITHOUT_LENGTH = 1000  # for data of unknown length, which may have no end
_INFINITE = -1  # cardinalities of tf.data
_UNKNOWN = -2
_READ_BY_KERAS = ("keras", "tf_keras", "tensorflow", "torch")  # datasets of these libraries, and subclasses of them


def arguments(data: Any, batch_size: int | None) -> dict[str, Any]:
    """Arguments for ``model.evaluate``, except that ``x`` may be a Generator. Raises ParameterError for data that
    cannot be read repeatedly.
    """
    if isinstance(data, (tuple, list)):
        if len(data) not in (2, 3):
            problem = "a tuple must be (x, y) or (x, y, sample_weight)"
            raise ParameterError(name="adsValData", value=f"{len(data)} values", problem=problem)
        x, y, weight = data if len(data) == 3 else (*data, None)
        return {"x": x, "y": y, "sample_weight": weight, "batch_size": batch_size}
    if callable(getattr(data, "cardinality", None)):
        return {"x": _with_an_end(data)}
    if isinstance(data, Iterator) and not hasattr(data, "__getitem__"):  # iterators of ImageDataGenerator have it
        if not hasattr(data, "__len__"):
            problem = "it can be read only once, and each merge evaluates; give a dataset or (x, y)"
            raise ParameterError(name="adsValData", value=type(data).__name__, problem=problem)
        return {"x": Generator(data)}
    return {"x": Generator(data) if _only_gives_batches(data) else data}


class Generator:
    """Batches from an object of a class that Keras does not know, which says how many they are; read anew each time."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def batches(self) -> Iterator[Any]:
        """The batches of one pass."""
        return (batch for batch in islice(self._data, len(self._data)))

    def __len__(self) -> int:
        return len(self._data)


def measured(model: Any, given: Mapping[str, Any], batches: int | None = None) -> tuple[float, float | None]:
    """Loss, and the first compiled metric or None. ``batches``: how many to evaluate; None for all."""
    steps: dict[str, Any] = {} if batches is None else {"steps": batches}
    data = given["x"]
    if isinstance(data, Generator):
        steps = {"x": data.batches(), "steps": batches or len(data)}
    with no_trace(model), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")  # which is how Keras finds the end
        results = dict(model.evaluate(**{**given, **steps}, verbose=0, return_dict=True))
        names = [name for name in model.get_metrics_result() if name in results]  # evaluate returns them sorted
    names += [name for name in results if name not in names]
    losses = sorted((name for name in names if name.endswith("loss")), key=lambda name: name != "loss")
    metrics = [name for name in names if not name.endswith("loss")]
    metrics.sort(key=lambda name: not name.startswith(_first_output(model)))  # the others stay in their order
    loss = results[losses[0]] if losses else results[names[0]]
    return _mean(loss), _mean(results[metrics[0]]) if metrics and losses else None


def _first_output(model: Any) -> str:
    """Prefix of the first output's metric names, if metrics were compiled by output; Keras sorts by output name."""
    compiled = getattr(model, "_compile_metrics", None) or getattr(model, "compiled_metrics", None)
    by_output = getattr(compiled, "_user_metrics", None)
    return f"{next(iter(by_output))}_" if isinstance(by_output, Mapping) and by_output else ""


def _with_an_end(dataset: Any) -> Any:
    count = int(dataset.cardinality())
    if count == _INFINITE:
        problem = "it has no end; leave out repeat(), or take(n) batches of it"
        raise ParameterError(name="adsValData", value=type(dataset).__name__, problem=problem)
    return dataset.take(MAX_BATCHES_WITHOUT_LENGTH) if count == _UNKNOWN else dataset


def _mean(value: Any) -> float:
    """The mean of a metric with several values, such as one per class."""
    return float(np.mean(np.asarray(value, np.float64)))


@contextmanager
def no_trace(model: Any) -> Iterator[None]:
    """Restores what ``evaluate`` changes: the metrics of the running epoch, the states of recurrent layers and random
    generators and, in Keras 2, the history of ``fit``.
    """
    variables = [*_of_metrics(model), *_of_recurrent_layers(model), *_of_generators(model)]
    values = [keras_weights.read(variable).copy() for variable in variables]
    history = getattr(model, "history", None)
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        if history is not None:
            model.history = history


def _of_metrics(model: Any) -> list[Any]:
    return [variable for metric in model.metrics for variable in metric.variables]


def _of_recurrent_layers(model: Any) -> list[Any]:
    """The states of stateful layers; a layer has none before its first call."""
    stateful = [layer for layer in keras_weights.layers_of(model) if getattr(layer, "stateful", False)]
    return [state for layer in stateful for state in _flat(getattr(layer, "states", None)) if state is not None]


def _of_generators(model: Any) -> list[Any]:
    """States of the layers' random generators, which Keras 3 lists among the variables, and of the global one."""
    weights = {id(weight) for weight in keras_weights.weights_of(model)}
    own = [variable for variable in getattr(model, "variables", ()) if id(variable) not in weights]
    module = sys.modules.get("keras.src.backend.common.global_state")  # it has no public name
    common = None if module is None else module.get_global_attribute("global_seed_generator")
    return own if common is None else [*own, common.state]


def _flat(nested: Any) -> Iterator[Any]:
    if isinstance(nested, (list, tuple)):
        for part in nested:
            yield from _flat(part)
    else:
        yield nested


def _only_gives_batches(data: Any) -> bool:
    """Whether the data is an iterable with a length, of a class that Keras cannot read."""
    return (
        isinstance(data, Iterable)
        and hasattr(data, "__len__")
        and not (isinstance(data, (str, bytes, Mapping)) or hasattr(data, "__array__"))
        and not any(kind.__module__.partition(".")[0] in _READ_BY_KERAS for kind in type(data).__mro__)
    )
