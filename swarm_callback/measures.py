"""What a user's own evaluation may answer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from swarm_callback.errors import ParameterError


def read_measures(answer: Any) -> tuple[float, float]:
    """Loss and metric of (loss, metric), of {"loss": ..., name: ...} or of the loss alone: the metric is NaN then.

    Raises ParameterError.
    """
    values: Sequence[Any]
    if isinstance(answer, Mapping):
        others = [value for name, value in answer.items() if name != "loss"]
        values = [answer["loss"], *others] if "loss" in answer else []
    else:
        values = answer if isinstance(answer, (tuple, list)) else [answer]
    try:
        loss, metric = (float(value) for value in [*values, math.nan][:2])
    except (TypeError, ValueError):
        problem = "it must answer with a loss, (loss, metric) or {'loss': ..., 'accuracy': ...}"
        raise ParameterError(name="evaluate", value=answer, problem=problem) from None
    return loss, metric
