"""Whether a model is still the final one of the swarm after all callbacks behind SwarmCallback have run."""

from collections.abc import Iterable
from typing import Any

from swarm_callback.base import SwarmCallbackBase
from swarm_callback.params import same_bits


def tell_if_replaced(swarm: SwarmCallbackBase, later: Iterable[Any]) -> None:
    """Warns if the model's parameters are no longer those of the swarm's final model. ``later``: callbacks that ran
    since.
    """
    merged = swarm.merged_parameters() if swarm.training_over else {}
    if not merged:
        return
    now = swarm.extract_parameters()
    if all(same_bits(now[name], tensor) for name, tensor in merged.items()):
        return
    swarm.logger.warning(
        "The model is no longer the final model of the swarm: a callback that comes after SwarmCallback has changed "
        "its parameters (one of %s). Put SwarmCallback last in the list of callbacks",
        ", ".join(sorted({type(one).__name__ for one in later})),
    )
