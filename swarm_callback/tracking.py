"""Loss and metric of each merge in TensorBoard or MLflow, where these are installed."""

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from swarm_callback.errors import ParameterError
from swarm_callback.history import Merge

TENSORBOARD: Final = "tensorboard"
MLFLOW: Final = "mlflow"
DEFAULT_FOLDER: Final = "runs/swarm"

Track = Callable[[Merge], None]


def tracker(where: str) -> Track:
    """``tensorboard``, ``tensorboard:FOLDER`` or ``mlflow``. Raises ParameterError where it is not installed."""
    kind, _, folder = where.partition(":")
    if kind == TENSORBOARD:
        return _tensorboard(where, folder or DEFAULT_FOLDER)
    if kind == MLFLOW and not folder:
        return _mlflow(where)
    raise ParameterError(name="track", value=where, problem="it must be tensorboard, tensorboard:FOLDER or mlflow")


def _tensorboard(where: str, folder: str) -> Track:
    events = _imported(where, "tensorboard.summary.writer.event_file_writer")
    event, summary = (_imported(where, f"tensorboard.compat.proto.{name}_pb2") for name in ("event", "summary"))
    writer = events.EventFileWriter(folder)

    def track(merge: Merge) -> None:
        values = [summary.Summary.Value(tag=tag, simple_value=value) for tag, value in _values(merge).items()]
        written = summary.Summary(value=values)
        writer.add_event(event.Event(wall_time=time.time(), step=merge.round, summary=written))
        writer.flush()
        if merge.training_over:
            writer.close()

    return track


def _mlflow(where: str) -> Track:
    """Into the run that is active; MLflow begins one where there is none."""
    mlflow = _imported(where, MLFLOW)

    def track(merge: Merge) -> None:
        mlflow.log_metrics(_values(merge), step=merge.round)

    return track


def _imported(where: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        problem = f"{module.partition('.')[0]} is not installed"
        raise ParameterError(name="track", value=where, problem=problem) from None


def _values(merge: Merge) -> Mapping[str, float]:
    """By tag; what has no value is left away."""
    values = {
        "swarm/loss": merge.loss,
        "swarm/metric": merge.metric,
        "swarm/contributed": float(merge.contributed),
        "swarm/epochs": float(merge.epochs_done),
        "swarm/interval": float(merge.next_interval),
    }
    return {tag: value for tag, value in values.items() if value is not None}
