"""A stream's header in the terms of the merge."""

from collections.abc import Sequence

from services.merge.layout import TensorSpec
from swarm_callback import params


def layout_of(specs: Sequence[params.TensorSpec]) -> dict[str, TensorSpec]:
    """The tensors of a stream."""
    return {spec.name: TensorSpec(spec.dtype, spec.shape) for spec in specs}
