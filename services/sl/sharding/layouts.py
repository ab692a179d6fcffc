"""Translates a stream's header and a training's configuration into the terms of the merge."""

from collections.abc import Sequence

from services.merge.layout import Layout, TensorLayout
from services.merge.work import MergeJob, Rounding
from services.sl.view import CheckInEntry, Config
from swarm_callback import params
from swarm_callback.rounding import round_in_place

LEAST_PART = 10
STEPS = 2520  # the least common multiple of 1 to 10
MOST_WEIGHT = 2**30 - 1


def layout_of(specs: Sequence[params.TensorSpec]) -> dict[str, TensorLayout]:
    """The tensors of a stream."""
    return {spec.name: TensorLayout(spec.dtype, spec.shape) for spec in specs}


def rounding_of(config: Config) -> Rounding | None:
    """The rounding of the result's floats; contributions were rounded in the same way."""
    return round_in_place if config.transfer_compression == "bf16" else None


def weights_of(entries: Sequence[CheckInEntry]) -> dict[str, int]:
    """Weights by name; equal ones if no entry has weight. An entry that is s rounds stale counts 1 / (1 + s) of its
    weight, at least a tenth.
    """
    unweighted = not any(entry.weight for entry in entries)
    weights = {entry.name: 1 if unweighted else entry.weight for entry in entries}
    if not any(entry.staleness for entry in entries):
        return weights
    # A multiple of all divisors, unless the sum would be too large for an exact merge; then weights are rounded down.
    factor = STEPS if sum(weights.values()) * STEPS <= MOST_WEIGHT else 1
    parts = {entry.name: 1 + min(entry.staleness, LEAST_PART - 1) for entry in entries}
    return {name: max(1, weight * factor // parts[name]) if weight else 0 for name, weight in weights.items()}


def work_of(config: Config, layout: Layout, entries: Sequence[CheckInEntry]) -> MergeJob:
    """The merge of these entries."""
    return MergeJob(config.merge_method, layout, weights_of(entries), rounding=rounding_of(config))
