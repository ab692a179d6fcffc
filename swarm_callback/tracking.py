"""Logs loss and metric of each merge to TensorBoard or MLflow, if installed."""

import importlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from swarm_callback.errors import ParameterError
from swarm_callback.history import Merge
from swarm_callback.sentences import said

TENSORBOARD: Final = "tensorboard"
MLFLOW: Final = "mlflow"
DEFAULT_FOLDER: Final = "runs/swarm"

Track = Callable[[Merge], None]


def tracker(where: str) -> Track:
    """``tensorboard``, ``tensorboard:FOLDER`` or ``mlflow``. Raises ParameterError if it is not installed or cannot be
    used.
    """
    kind, _, folder = where.partition(":")
    if kind == TENSORBOARD:
        return _tensorboard(where, folder or DEFAULT_FOLDER)
    if kind == MLFLOW and not folder:
        return _mlflow(where)
    raise ParameterError(name="track", value=where, problem="it must be tensorboard, tensorboard:FOLDER or mlflow")


def _tensorboard(where: str, folder: str) -> Track:
    """Writes one event file per program, without TensorBoard's own writer: that imports TensorFlow if it is installed,
    which takes seconds.
    """
    records = _imported(where, "tensorboard.summary.writer.record_writer")
    event, summary = (_imported(where, f"tensorboard.compat.proto.{name}_pb2") for name in ("event", "summary"))
    began = time.time()
    path = Path(folder, f"events.out.tfevents.{int(began)}.{socket.gethostname()}.{os.getpid()}")

    def add(told: Any) -> None:
        with path.open("ab") as file:
            records.RecordWriter(file).write(told.SerializeToString())

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        add(event.Event(wall_time=began, file_version="brain.Event:2"))
    except OSError as error:
        problem = f"{folder} cannot be written ({error.strerror})"
        raise ParameterError(name="track", value=where, problem=problem) from None

    def track(merge: Merge) -> None:
        values = [summary.Summary.Value(tag=tag, simple_value=value) for tag, value in _values(merge).items()]
        add(event.Event(wall_time=time.time(), step=merge.round, summary=summary.Summary(value=values)))

    return track


def _mlflow(where: str) -> Track:
    """Logs to the active run; MLflow starts one if there is none."""
    mlflow = _imported(where, MLFLOW)
    try:
        mlflow.MlflowClient()  # opens what MLFLOW_TRACKING_URI names, unless it is a server
    except Exception as error:  # of MLflow, or of the database that it uses
        raise ParameterError(name="track", value=where, problem=f"MLflow cannot be used: {said(error)}") from None

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
    """Values by tag; what has no value is left out."""
    values = {
        "swarm/loss": merge.loss,
        "swarm/metric": merge.metric,
        "swarm/contributed": float(merge.contributed),
        "swarm/epochs": float(merge.epochs_done),
        "swarm/interval": float(merge.next_interval),
    }
    return {tag: value for tag, value in values.items() if value is not None}
