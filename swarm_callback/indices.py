"""Buffers that hold indices, such as a permutation: they have no mean, and must be the same on every node."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from swarm_callback.errors import NotTheSameIndices
from swarm_callback.params import RawTensor, Tensor


class Indices:
    """The index buffers of one model: buffers of several integers that training does not change. A single integer, or a
    buffer that changes, counts something.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._given: dict[str, npt.NDArray[Any]] = {}
        self._before: dict[str, npt.NDArray[Any]] | None = None  # this node's buffers after its last merge
        self._told: set[str] = set()

    def giving(self, tensors: Mapping[str, Tensor], untrained: Collection[str]) -> None:
        """Stores what this node contributes. ``untrained``: names of buffers."""
        found = ((name, tensors[name]) for name in untrained if name in tensors)
        self._given = {
            name: tensor.copy()
            for name, tensor in found
            if not isinstance(tensor, RawTensor) and tensor.dtype.kind in "iu" and tensor.size > 1
        }

    def taking(self, merged: Mapping[str, Tensor], of_one: bool) -> None:
        """Compares with the merged model. ``of_one``: it is one node's model, not a mean. Raises NotTheSameIndices."""
        for name, own in self._given.items():
            if self._before is not None and not np.array_equal(own, self._before.get(name, own)):
                continue  # it has changed since the last merge
            if np.array_equal(np.asarray(merged[name]), own):
                continue
            if not of_one:
                raise NotTheSameIndices(name=name)
            if name not in self._told:
                self._told.add(name)
                self._logger.warning(
                    "The buffer %s holds integers that differ between nodes: here it has now those of "
                    "another node. If they are a node's own, name it in keep_local",
                    name,
                )
        self._before = {name: np.asarray(merged[name]).copy() for name in self._given}
