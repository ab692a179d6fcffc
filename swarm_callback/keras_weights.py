"""The weights of a Keras model under names that are the same on every node, for Keras 3 and Keras 2 (tf_keras)."""

import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from swarm_callback.params import RawTensor, Tensor

_AUTO_NUMBER = re.compile(r"_\d+$")  # Keras numbers the layers of a process: dense, dense_1, dense_2
_FUNCTIONS = ("train", "test", "predict")


def weights_of(model: Any) -> list[Any]:
    """All weights; an empty list if the model is not built, for which Keras 2 raises ValueError."""
    try:
        return list(model.weights)
    except ValueError:
        return []


def named_weights(model: Any) -> Iterator[tuple[str, Any]]:
    """Name and weight; a name is the index and the end of the path: "0003/dense/kernel"."""
    for index, weight in enumerate(weights_of(model)):
        # Keras 2 uses TensorFlow variables, with names such as dense_1/kernel:0.
        path = weight.path if _of_keras_3(weight) else weight.name.partition(":")[0]
        tail = "/".join(_AUTO_NUMBER.sub("", part) for part in path.split("/")[-2:])
        yield f"{index:04d}/{tail}", weight


def untrained(model: Any) -> list[str]:
    """Names of weights that no optimizer changes: statistics, constants, frozen layers."""
    return [name for name, weight in named_weights(model) if not weight.trainable]


def read(variable: Any) -> np.ndarray[Any, Any]:
    """The current values. Read-only ones may be the variable's memory, which the variable then no longer changes. On
    PyTorch they may be the variable's own memory and change with it.
    """
    if not _of_keras_3(variable):
        return _of_tensorflow(variable)
    if backend() == "tensorflow":
        return _of_tensorflow(variable.value)
    if backend() == "torch":
        return _of_torch(variable.value)
    array: np.ndarray[Any, Any] = sys.modules["keras"].ops.convert_to_numpy(variable.value)
    return array


def _of_torch(value: Any) -> np.ndarray[Any, Any]:
    """Avoids Keras's own conversion, which copies and warns about numpy 2."""
    torch = sys.modules["torch"]
    local = value.detach().cpu().contiguous()
    if local.dtype != torch.bfloat16:
        array: np.ndarray[Any, Any] = local.numpy()
        return array
    import ml_dtypes  # noqa: PLC0415 - see to_array

    bits: np.ndarray[Any, Any] = local.view(torch.int16).numpy()
    return bits.view(ml_dtypes.bfloat16)


def load(model: Any, tensors: Mapping[str, Tensor]) -> None:
    """Assigns each weight its value. Layers that keep values derived from their weights (Normalization) derive them
    again, and functions compiled with the old ones are compiled again.
    """
    deriving = [
        layer for layer in layers_of(model) if layer.weights and callable(getattr(layer, "finalize_state", None))
    ]
    before = [[read(weight).copy() for weight in layer.weights] for layer in deriving]
    with warnings.catch_warnings():  # from PyTorch; the arrays are only read
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        for name, weight in named_weights(model):
            weight.assign(to_array(tensors[name]))
    stale = [layer for layer, values in zip(deriving, before, strict=True) if not _same(layer, values)]
    for layer in stale:
        layer.finalize_state()
    if stale:
        forget_compiled(model)


def backend() -> str:
    """The backend of Keras 3; empty if this process has not imported it."""
    keras = sys.modules.get("keras")
    return str(keras.backend.backend()) if keras is not None else ""


def _of_tensorflow(variable: Any) -> np.ndarray[Any, Any]:
    """A view if possible; ``variable.numpy()`` would be a copy."""
    tensor = sys.modules["tensorflow"].convert_to_tensor(variable)
    try:
        return np.asarray(memoryview(tensor))
    except ValueError:  # Python's buffers have no format code for bfloat16
        values: np.ndarray[Any, Any] = tensor.numpy()
        return values


def _of_keras_3(variable: Any) -> bool:
    return hasattr(variable, "path")


def layers_of(model: Any) -> list[Any]:
    """All layers, including nested ones."""
    flatten = getattr(model, "_flatten_layers", None)
    return list(flatten(include_self=False) if flatten else model.layers)


def _same(layer: Any, values: list[np.ndarray[Any, Any]]) -> bool:
    return all(np.array_equal(read(weight), value) for weight, value in zip(layer.weights, values, strict=True))


def forget_compiled(model: Any) -> None:
    """Compiles again: ``fit`` looks up its function for each batch, but builds it only once."""
    for kind in _FUNCTIONS:
        if getattr(model, f"{kind}_function", None) is not None:
            getattr(model, f"make_{kind}_function")(force=True)


def to_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    if not isinstance(tensor, RawTensor):
        return tensor
    import ml_dtypes  # noqa: PLC0415 - Keras brings it; only a bfloat16 model needs it

    return np.frombuffer(tensor.data, ml_dtypes.bfloat16).reshape(tensor.shape)
