"""What the user's own evaluation function may return."""

from collections.abc import Mapping, Sequence
from typing import Any

from swarm_callback.errors import ParameterError


def read_measures(answer: Any) -> tuple[float, float | None]:
    """Loss and metric from (loss, metric), {"loss": ..., name: ...} or the loss alone; without a metric, None.

    Raises ParameterError.
    """
    values: Sequence[Any]
    if isinstance(answer, Mapping):
        metrics = [value for name, value in answer.items() if name != "loss"]
        values = [answer["loss"], *metrics] if "loss" in answer else []
    else:
        values = answer if isinstance(answer, (tuple, list)) else [answer]
    try:
        loss, *others = [float(value) for value in values[:2]]
    except (TypeError, ValueError):
        problem = "it must answer with a loss, (loss, metric) or {'loss': ..., 'accuracy': ...}"
        raise ParameterError(name="evaluate", value=answer, problem=problem) from None
    return loss, others[0] if others else None


def in_words(loss: float | None, metric: float | None) -> str:
    """``: loss 0.5, metric 0.25``; what has no value is left out."""
    known = [f"{name} {value:.6g}" for name, value in (("loss", loss), ("metric", metric)) if value is not None]
    return f": {', '.join(known)}" if known else ""
