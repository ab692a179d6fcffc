"""Loss and metric of a Keras model on validation data, whatever form the data has."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from swarm_callback import keras_weights
from swarm_callback.errors import ParameterError

MAX_BATCHES_WITHOUT_LENGTH = 1000  # of data that does not say how long it is, and may have no end
_INFINITE = -1  # as tf.data says it
_UNKNOWN = -2


def arguments(data: Any, batch_size: int | None) -> dict[str, Any]:
    """What ``model.evaluate`` is called with. Raises ParameterError for what cannot be read again and again."""
    if isinstance(data, (tuple, list)):
        if len(data) not in (2, 3):
            problem = "a tuple must be (x, y) or (x, y, sample_weight)"
            raise ParameterError(name="adsValData", value=f"{len(data)} values", problem=problem)
        x, y, weight = data if len(data) == 3 else (*data, None)
        return {"x": x, "y": y, "sample_weight": weight, "batch_size": batch_size}
    if callable(getattr(data, "cardinality", None)):
        return {"x": _with_an_end(data)}
    if isinstance(data, Iterator) and not hasattr(data, "__getitem__"):  # those of ImageDataGenerator have it
        if not hasattr(data, "__len__"):
            problem = "it can be read only once, and each merge evaluates; give a dataset or (x, y)"
            raise ParameterError(name="adsValData", value=type(data).__name__, problem=problem)
        return {"x": data, "steps": data.__len__()}
    return {"x": data}


def measured(model: Any, given: Mapping[str, Any], batches: int | None = None) -> tuple[float, float | None]:
    """Loss, and the first metric that the model was compiled with, or None; ``batches``: of the first few only."""
    steps = {} if batches is None else {"steps": batches}
    with _no_trace(model), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")  # which is how Keras learns where it ends
        results = dict(model.evaluate(**{**given, **steps}, verbose=0, return_dict=True))
        names = [name for name in model.get_metrics_result() if name in results]  # evaluate gives them sorted
    names += [name for name in results if name not in names]
    losses = sorted((name for name in names if name.endswith("loss")), key=lambda name: name != "loss")
    metrics = [name for name in names if not name.endswith("loss")]
    metrics.sort(key=lambda name: not name.startswith(_first_output(model)))  # the others stay in their order
    loss = results[losses[0]] if losses else results[names[0]]
    return _mean(loss), _mean(results[metrics[0]]) if metrics and losses else None


def _first_output(model: Any) -> str:
    """How the names of its metrics begin, where metrics were compiled by output; Keras goes by the outputs' names."""
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
    """Of a metric that has several values, such as one for each class."""
    return float(np.mean(np.asarray(value, np.float64)))


@contextmanager
def _no_trace(model: Any) -> Iterator[None]:
    """``evaluate`` resets the metrics that the running epoch adds to; that of Keras 2 takes the history of ``fit``."""
    variables = [variable for metric in model.metrics for variable in metric.variables]
    values = [keras_weights.read(variable).copy() for variable in variables]
    history = getattr(model, "history", None)
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        if history is not None:
            model.history = history
