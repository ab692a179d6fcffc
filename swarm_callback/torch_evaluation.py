"""Loss and metric of a torch model on validation data, whatever form its batches and its outputs have."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from swarm_callback.errors import ParameterError

MAX_BATCHES_WITHOUT_LENGTH = 1000  # for data of unknown length, which may have no end
_TARGETS = ("labels", "label", "targets", "target", "y")
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_INSIDE = ("_orig_mod", "module", "_module", "model")  # in wrappers: torch.compile, DataParallel, Opacus, peft
_OUTPUTS = ("logits", "out", "output", "outputs", "prediction", "predictions")


class Evaluation:
    """``loss`` sums over a batch unless its reduction is "mean"; ``metric`` is one of torchmetrics. Either may be None;
    without ``loss``, the loss that the model itself returns is used, if any.
    """

    def __init__(
        self, model: torch.nn.Module, loader: DataLoader[Any], loss: torch.nn.Module | None, metric: Any
    ) -> None:
        self._model = model
        self._loader = loader
        self._loss = loss
        self._metric = metric

    @torch.no_grad()
    def run(self, device: torch.device, batches: int | None = None) -> tuple[float | None, float | None]:
        """Mean loss per example, and metric; None for what has no value. ``batches``: how many to evaluate; None for
        all. Raises ParameterError for data without a batch.
        """
        loss, count, found = 0.0, 0, 0
        has_loss = self._loss is not None
        loss_function = None if self._loss is None else self._loss.to(device)
        metric = None if self._metric is None else self._metric.to(device)
        with no_trace(self._model, self._loader):
            for batch in islice(self._loader, batches or _limit(self._loader)):
                found += 1
                outputs, wanted, size, own_loss = self._apply(_moved(batch, device))
                count += size
                if loss_function is not None:
                    loss += float(loss_function(outputs, wanted).sum()) * _weight(loss_function, size)
                elif own_loss is not None:
                    has_loss = True
                    loss += float(own_loss) * size
                if metric is not None:
                    metric.update(outputs, wanted)
            if not found:
                raise ParameterError(name="adsValData", value="empty", problem="it must have at least one batch")
            value = _value_of(metric)
        return loss / max(count, 1) if has_loss else None, value

    def _apply(self, batch: Any) -> tuple[torch.Tensor, Any, int, torch.Tensor | None]:
        """Outputs, targets, number of examples, and the loss that the model itself returns. Raises ParameterError."""
        if isinstance(batch, Mapping):
            key = next((name for name in _TARGETS if name in batch), None)
            if key is None:
                names = ", ".join(map(str, batch))
                raise ParameterError(name="adsValData", value=names, problem="no part of a batch is called labels")
            wanted = batch[key]
            answer = self._call_with_names(batch, key)
        elif isinstance(batch, Sequence) and len(batch) >= 2:
            inputs, wanted = batch[0], batch[1]
            answer = _call(self._model, inputs)
        else:
            problem = "a batch must be (inputs, targets, ...) or a dictionary with labels; or give evaluate="
            raise ParameterError(name="adsValData", value=type(batch).__name__, problem=problem)
        return _output(answer), wanted, len(wanted), _part(answer, "loss")

    def _call_with_names(self, batch: Mapping[str, Any], key: str) -> Any:
        """Passes by name what the model takes, as transformers expects; for other models, passes the first tensor."""
        others = {name: value for name, value in batch.items() if name != key}
        takes = _taken_by(self._model)
        named = {name: value for name, value in others.items() if name in takes}
        needed = {one.name for one in takes.values() if one.default is one.empty}
        label = next((name for name in _TARGETS if name in takes), None)
        if named and needed <= {*named, label}:
            return self._model(**named, **({} if label is None else {label: batch[key]}))
        tensors = [value for value in others.values() if isinstance(value, torch.Tensor)]
        return self._model(tensors[0])


def _taken_by(model: torch.nn.Module) -> dict[str, inspect.Parameter]:
    """Parameters of ``forward`` by name; for a wrapper that passes on all arguments, those of the module inside."""
    given = inspect.signature(model.forward).parameters
    takes = {name: one for name, one in given.items() if one.kind in _BY_NAME}
    inside = next((found for name in _INSIDE if isinstance(found := getattr(model, name, None), torch.nn.Module)), None)
    return takes if takes or inside is None else _taken_by(inside)


def _call(model: torch.nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def _output(answer: Any) -> torch.Tensor:
    if isinstance(answer, torch.Tensor):
        return answer
    for name in _OUTPUTS:
        if (found := _part(answer, name)) is not None:
            return found
    values = answer.values() if isinstance(answer, Mapping) else answer
    found = next((value for value in values if isinstance(value, torch.Tensor) and value.dim()), None)
    if found is None:
        raise ParameterError(name="model", value=type(answer).__name__, problem="its answer holds no tensor")
    return found


def _part(answer: Any, name: str) -> torch.Tensor | None:
    if isinstance(answer, torch.Tensor):
        return None
    value = answer.get(name) if isinstance(answer, Mapping) else None
    value = getattr(answer, name, None) if value is None else value
    return value if isinstance(value, torch.Tensor) else None


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: _moved(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return (
            type(batch)(*(_moved(it, device) for it in batch))
            if hasattr(batch, "_fields")
            else [_moved(value, device) for value in batch]
        )
    return batch


def _limit(loader: Iterable[Any]) -> int | None:
    try:
        len(loader)  # type: ignore[arg-type]
    except TypeError:
        return MAX_BATCHES_WITHOUT_LENGTH
    return None


def _weight(loss: torch.nn.Module, batch_size: int) -> int:
    return batch_size if getattr(loss, "reduction", "sum") == "mean" else 1


def _value_of(metric: Any) -> float | None:
    """The metric's value: the mean of several, such as one per class; the first of a dictionary. Else None."""
    if metric is None:
        return None
    value = metric.compute()
    metric.reset()
    if isinstance(value, Mapping):
        value = next(iter(value.values()))
    return float(torch.as_tensor(value, dtype=torch.float64).nanmean())


@contextmanager
def no_trace(model: torch.nn.Module, loader: DataLoader[Any] | None = None) -> Iterator[None]:
    """Switches to evaluation mode, then restores the mode of each module: some keep parts in evaluation mode on
    purpose. Also restores hidden states that modules keep from batch to batch, and the loader's random generators.
    """
    modes = [(module, module.training) for module in model.modules()]
    states = [(module, dict(vars(module))) for module in model.modules()]
    generators = [
        (generator, generator.get_state())
        for owner in (loader, getattr(loader, "sampler", None))
        if isinstance(generator := getattr(owner, "generator", None), torch.Generator)
    ]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for module, before in states:
            for name, value in list(vars(module).items()):
                if name in before and value is not before[name] and (_is_state(value) or _is_state(before[name])):
                    vars(module)[name] = before[name]
        for generator, state in generators:
            generator.set_state(state)


def _is_state(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_is_state, value))
    return isinstance(value, torch.Tensor)
