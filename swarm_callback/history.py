"""The result of each exchange with the swarm, for the user's hooks and records."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Merge:
    """One merged model that this program received.

    ``contributed``: whether it includes this node's parameters; if not, ``note`` says why. ``loss``, ``metric``: of the
    merged model on this node's validation data, None if there is no value. ``epochs_done``: epochs of this node.
    ``batches_done``: batches since its training began. ``next_interval``: batches until the next exchange.
    ``training_over``: whether the whole swarm has finished.
    """

    round: int
    contributed: bool
    note: str
    loss: float | None
    metric: float | None
    epochs_done: int
    batches_done: int
    next_interval: int
    training_over: bool
