"""SwarmCallback for PyTorch Lightning: a callback for its Trainer."""

import importlib.util
import math
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from swarm_callback.errors import Unsupported, UsageError
from swarm_callback.options import Options
from swarm_callback.replaced import tell_if_replaced
from swarm_callback.torch import SwarmCallback as TorchCallback


def _lightning() -> Any:
    """Of Lightning's two packages, the one that this script has imported, else the one that is installed."""
    names = ("lightning.pytorch", "pytorch_lightning")
    used = [name for name in names if sys.modules.get(name)]
    there = [name for name in names if importlib.util.find_spec(name.partition(".")[0])]
    return importlib.import_module([*used, *there, names[0]][0])


_Hooks: Any = _lightning().Callback


class SwarmCallback(TorchCallback, _Hooks):  # type: ignore[misc]
    """``Trainer(..., callbacks=[SwarmCallback(syncFrequency, minPeers, model=module, ...)])``, where ``module`` is the
    LightningModule given to ``fit``.

    ``syncFrequency`` counts the batches after which an optimizer stepped, so accumulated batches count as one.
    ``adsValData``: a DataLoader with inputs that the module's ``forward`` takes; or use ``evaluate=``. Training stops
    when the swarm's training is over. The node enrols when ``fit`` begins, or when ``initial_epoch`` is read. Several
    ranks are one node.
    """

    PLATFORMS: ClassVar[tuple[str, ...]] = ("LIGHTNING", "PYTORCH")
    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = {"optimizer": "the Trainer has its own"}
    OPENS_AT_ONCE: ClassVar[bool] = False  # its ranks are connected only when the training begins

    def verify_platform(self, options: Options) -> None:
        super().verify_platform(options)
        self._steps_seen = 0

    def optimizers_given(self, options: Options) -> list[torch.optim.Optimizer]:
        """None yet: the Trainer's own optimizers are known when the training begins."""
        return []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """First merge. Raises UsageError if ``fit`` trains another model, Unsupported if it starts several ranks after
        ``initial_epoch`` was read.
        """
        if pl_module is not self._model:
            raise UsageError(problem="SwarmCallback was given another model than fit trains")
        if trainer.world_size > 1 and self._session is not None:
            problem = "initial_epoch was read before fit, which starts several ranks"
            raise Unsupported(problem=problem, instead="Read it when fit has begun.")
        self.open_session()
        self._optimizers = list(trainer.optimizers)
        self._steps_seen = trainer.global_step
        steps = trainer.estimated_stepping_batches - trainer.global_step
        self.batches_to_come = int(steps) if math.isfinite(steps) else None
        self.on_train_begin()
        self._stop_when_over(trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts a batch that ended with a step of an optimizer."""
        if trainer.global_step != self._steps_seen:
            self._steps_seen = trainer.global_step
            self.count_batches(1)
        self._stop_when_over(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Counts an epoch."""
        self.on_epoch_end()

    def on_train_end(self, trainer: Any = None, pl_module: Any = None) -> None:
        """Last merge."""
        super().on_train_end()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Called after all callbacks have ended: warns if one replaced the final model."""
        tell_if_replaced(self, trainer.callbacks[trainer.callbacks.index(self) + 1 :])

    def _stop_when_over(self, trainer: Any) -> None:
        if self.training_over:
            trainer.should_stop = True
