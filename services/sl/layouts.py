"""A stream's header, and what a training has agreed on, in the terms of the merge."""

from collections.abc import Sequence

from services.merge.layout import Layout, TensorSpec
from services.merge.work import Rounding, Work
from services.sl.view import CheckedIn, Config
from swarm_callback import params
from swarm_callback.rounding import round_in_place


def layout_of(specs: Sequence[params.TensorSpec]) -> dict[str, TensorSpec]:
    """The tensors of a stream."""
    return {spec.name: TensorSpec(spec.dtype, spec.shape) for spec in specs}


def rounding_of(config: Config) -> Rounding | None:
    """What is done to the floats of a result, as it was done to what it is made of."""
    return round_in_place if config.transfer_compression == "bf16" else None


def weights_of(entries: Sequence[CheckedIn]) -> dict[str, int]:
    """By name; where nobody has any weight, all have the same."""
    unweighted = not any(entry.weight for entry in entries)
    return {entry.name: 1 if unweighted else entry.weight for entry in entries}


def work_of(config: Config, layout: Layout, entries: Sequence[CheckedIn]) -> Work:
    """The merge of these."""
    return Work(config.merge_method, layout, weights_of(entries), rounding=rounding_of(config))
