"""SwarmCallback for PyTorch: four calls in the user's own training loop."""

import difflib
import os
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader

from swarm_callback.base import SwarmCallbackBase
from swarm_callback.errors import MissingParameter, ParameterError, UsageError
from swarm_callback.options import Options
from swarm_callback.params import Tensor
from swarm_callback.session import Session
from swarm_callback.sharing import TRAINABLE, Shared
from swarm_callback.torch_evaluation import MAX_BATCHES_WITHOUT_LENGTH, Evaluation, no_trace
from swarm_callback.torch_hooks import ExampleCount, ProximalTerm, needed_optimizers, reset
from swarm_callback.torch_ranks import session_of_ranks
from swarm_callback.torch_state import TorchState


class SwarmCallback(SwarmCallbackBase):
    """``SwarmCallback(syncFrequency, minPeers, model=net, ...)``; then call ``on_train_begin()``, ``on_batch_end()``
    after each batch, ``on_epoch_end()`` and ``on_train_end()``. Once ``training_over`` is true, the loop may stop
    early.

    The whole ``state_dict`` is shared: parameters, including frozen ones, and persistent buffers. Tied weights (names
    that share one storage) stay tied. Tensors are float16, bfloat16, float32, float64, bool, or integers of 8 to 64
    bits; NotStorable is raised for others.

    ``adsValData``: a DataLoader of (inputs, targets, ...), or of dictionaries with labels; one batch is tried at once.
    The model may take several inputs and return a tensor, a tuple, a dictionary or a ``ModelOutput``. ``lossFunction``:
    name of a class of ``torch.nn``. The reported loss is its sum over the data divided by the number of examples:
    ``reduction`` is "sum" unless given; with "mean", each batch is weighted by its size. ``metricFunction``: name of a
    class of ``torchmetrics``.
    """

    PLATFORMS: ClassVar[tuple[str, ...]] = ("PYTORCH",)
    RESETS_OPTIMIZERS: ClassVar[bool] = True
    COUNTS_EXAMPLES: ClassVar[bool] = True

    def verify_platform(self, options: Options) -> None:
        if not isinstance(options.model, torch.nn.Module):
            raise MissingParameter(name="model", problem="the torch.nn.Module that is trained")
        self._model: torch.nn.Module = options.model
        self._state = TorchState(options.model)
        self._loader: DataLoader[Any] | None = None
        self._loss = _loss(options)
        self._metric = _metric(options)
        self._proximal = ProximalTerm()
        self._seen = None if options.weighting == "fixed" else ExampleCount(options.model)
        if options.hf_mode == "peft":
            self._shared = Shared(TRAINABLE, options.keep_local)
        self._optimizers = [] if options.optimizer_state == "keep" else self.optimizers_given(options)

    def optimizers_given(self, options: Options) -> list[torch.optim.Optimizer]:
        """The optimizers that ``optimizerState="reset"`` resets. Raises ParameterError."""
        return needed_optimizers(options.optimizer)

    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        if not isinstance(data, DataLoader):
            raise ParameterError(name="adsValData", value=type(data).__name__, problem="it must be a DataLoader")
        if batch_size is not None:
            self.logger.info("adsValBatchSize has no effect here: a DataLoader has its own batch size")
        try:
            len(data)
        except TypeError:
            self.logger.info(
                "adsValData does not say how long it is: at most %d batches of it are read", MAX_BATCHES_WITHOUT_LENGTH
            )
        self._loader = data

    def connect(self) -> Session:
        return session_of_ranks(os.environ, self.logger) or super().connect()

    def check_parameters(self) -> None:
        self._state.check()
        for name, first in self._state.ties().items():
            self.logger.info("%s is tied to %s: it travels once, and stays tied", name, first)

    def trainable(self) -> Collection[str]:
        return self._state.trainable()

    def untrained(self) -> Collection[str]:
        return self._state.buffers()

    def extract_parameters(self) -> Mapping[str, Tensor]:
        return self._state.read()

    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        self._state.load(tensors)
        self._proximal.forget()

    def examples_seen(self) -> int:
        return self._seen.total if self._seen is not None else 0

    def reset_optimizer(self) -> None:
        reset(self._optimizers)

    def proximal_term(self, model: torch.nn.Module) -> torch.Tensor:
        return self._proximal.of(model, self.merged_parameters)

    def try_evaluation(self) -> bool:
        if self._loader is not None and self._options.evaluate is None:
            loss, _ = self._evaluation.run(self._state.device, batches=1)
            if loss is None:
                self.logger.warning(
                    "Validation gives no loss: lossFunction is not given, and the model answers with none%s",
                    ". This node has no say in useAdaptiveSync" if self._options.use_adaptive_sync else "",
                )
        return True

    def no_trace(self) -> AbstractContextManager[None]:
        return no_trace(self._model)

    def evaluate(self) -> tuple[float | None, float | None]:
        return self._evaluation.run(self._state.device)

    @property
    def _evaluation(self) -> Evaluation:
        if self._loader is None:
            raise UsageError(problem="There is no validation data to evaluate on")
        return Evaluation(self._model, self._loader, self._loss, self._metric)


def _loss(options: Options) -> torch.nn.Module | None:
    if options.loss_function is None:
        return None
    kind = _class_in(torch.nn, "torch.nn", "lossFunction", options.loss_function)
    arguments = {name: _tensor_of(value) for name, value in options.loss_arguments.items()}
    try:
        return kind(**{"reduction": "sum"} | arguments)  # type: ignore[no-any-return]
    except TypeError as error:
        raise ParameterError(name="lossFunctionArgs", value=dict(options.loss_arguments), problem=str(error)) from None


def _tensor_of(argument: Any) -> Any:
    """Class weights may be given as a list; torch needs a float32 tensor."""
    numbers = isinstance(argument, (list, tuple)) and all(isinstance(value, (int, float)) for value in argument)
    return torch.tensor(argument, dtype=torch.float32) if numbers else argument


def _metric(options: Options) -> Any:
    if options.metric_function is None:
        return None
    try:
        import torchmetrics  # noqa: PLC0415 - only who names a metric needs it
    except ImportError:
        problem = "torchmetrics is not installed"
        raise ParameterError(name="metricFunction", value=options.metric_function, problem=problem) from None
    kind = _class_in(torchmetrics, "torchmetrics", "metricFunction", options.metric_function)
    arguments = dict(options.metric_arguments)
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ParameterError(name="metricFunctionArgs", value=arguments, problem=str(error)) from None


def _class_in(module: Any, where: str, parameter: str, name: str) -> Any:
    found = getattr(module, name, None)
    if isinstance(found, type):
        return found
    classes = [key for key in dir(module) if isinstance(getattr(module, key, None), type)]
    nearest = difflib.get_close_matches(name, classes, n=1, cutoff=0.0)[0]
    raise ParameterError(name=parameter, value=name, problem=f"{where} has no such class; perhaps {nearest} is meant")
