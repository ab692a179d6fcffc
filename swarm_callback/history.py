"""What each exchange with the swarm came to, for the user's hooks and records."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Merge:
    """One merged model that this program got.

    ``contributed``: whether what this node had trained is in it; ``note`` says why not. ``loss``, ``metric``: of the
    merged model on this node's validation data, None where it gives no value. ``epochs_done``: by this node.
    ``batches_done``: since its training began. ``next_interval``: batches until the next exchange.
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
