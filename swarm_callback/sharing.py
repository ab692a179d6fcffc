"""Which parameters of a model are shared: all, those that are trained, or those whose names match patterns."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

from swarm_callback.errors import ParameterError
from swarm_callback.params import Tensor

ALL = "all"
TRAINABLE = "trainable"


class Shared:
    """``share``: "all", "trainable", or patterns as in a shell ("head.*"). ``keep_local``: patterns of names that are
    not shared even so. Both are equal on every node, as the names are part of the layout that nodes agree on.
    """

    def __init__(self, share: str | Sequence[str], keep_local: Sequence[str]) -> None:
        self._share = share
        self._keep_local = keep_local

    @property
    def everything(self) -> bool:
        return self._share == ALL and not self._keep_local

    def of(self, tensors: Mapping[str, Tensor], trainable: Collection[str]) -> dict[str, Tensor]:
        """The tensors to share. Raises ParameterError for a pattern that matches no name, or if nothing is left."""
        names = set(tensors)
        if self._share == TRAINABLE:
            names &= set(trainable)
        elif not isinstance(self._share, str):
            names = _fitting("share", self._share, names)
        names -= _fitting("keep_local", self._keep_local, set(tensors))
        if not names:
            problem = "nothing of the model would be shared"
            raise ParameterError(name="share", value=self._share, problem=problem)
        return {name: tensors[name] for name in tensors if name in names}


def completed(shared: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole model: ``shared``, and from ``own`` only what it lacks, so that the rest of ``own`` can be freed."""
    return {name: shared[name] if name in shared else own[name] for name in own}


def _fitting(parameter: str, patterns: Sequence[str], names: Collection[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        fits = {name for name in names if fnmatchcase(name, pattern)}
        if not fits:
            known = ", ".join(sorted(names)[:5])
            problem = f"no parameter of the model is called so (there are {known}{', ...' if len(names) > 5 else ''})"
            raise ParameterError(name=parameter, value=pattern, problem=problem)
        found |= fits
    return found
