"""For PyTorch: resets optimizers at a merge, and gives a loss term that keeps training near the merged model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from swarm_callback.errors import MissingParameter, ParameterError
from swarm_callback.params import Tensor
from swarm_callback.torch_state import TorchState, to_torch


def optimizers_in(given: Any) -> list[torch.optim.Optimizer]:
    """The value of ``optimizer=``, one or several, as a list. Raises ParameterError."""
    many = list(given) if isinstance(given, Sequence) else [given]
    if not many or not all(isinstance(one, torch.optim.Optimizer) for one in many):
        problem = "it must be a torch.optim.Optimizer, or a list of them"
        raise ParameterError(name="optimizer", value=type(given).__name__, problem=problem)
    return many


def needed_optimizers(given: Any) -> list[torch.optim.Optimizer]:
    """The same, but there must be one. Raises MissingParameter, ParameterError."""
    if given is None:
        raise MissingParameter(name="optimizer", problem="the one whose state optimizerState='reset' forgets")
    return optimizers_in(given)


def reset(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Clears momenta and step counts; learning rates and schedules stay."""
    for optimizer in optimizers:
        optimizer.state.clear()


class ProximalTerm:
    """Half the squared distance of the trained parameters from the last merged model, kept on the model's device."""

    def __init__(self) -> None:
        self._merged: dict[str, torch.Tensor] | None = None

    def forget(self) -> None:
        """Drops the merged model, as a newer one has replaced it."""
        self._merged = None

    def of(self, model: torch.nn.Module, merged: Callable[[], Mapping[str, Tensor]]) -> torch.Tensor:
        """A scalar on the model's device, with a gradient; parameters that no merged model holds add 0."""
        state = TorchState(model)
        trained = state.trained()
        if self._merged is None:
            shared = merged()
            names = sorted(trained.keys() & shared.keys())
            self._merged = {name: to_torch(shared[name]).to(trained[name], copy=True) for name in names}
        total = torch.zeros((), device=state.device)
        for name, anchor in self._merged.items():
            total = total + (trained[name] - anchor).float().square().sum().to(total.device)
        return total / 2


class ExampleCount:
    """Counts the examples that a model gets while it trains: the first dimension of its first input tensor."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.total = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if module.training and torch.is_grad_enabled():
            self.total += _examples_in([inputs, named])


def _examples_in(given: Any) -> int:
    """Size of the first tensor that has a dimension, however deeply nested; 0 if there is none."""
    if isinstance(given, torch.Tensor):
        return given.shape[0] if given.dim() else 0
    many = given.values() if isinstance(given, Mapping) else given if isinstance(given, (list, tuple)) else ()
    return next((count for one in many if (count := _examples_in(one))), 0)
