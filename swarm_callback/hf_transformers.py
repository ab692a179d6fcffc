"""SwarmCallback for the Trainer of Hugging Face: a callback for it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import transformers
from torch.utils.data import DataLoader

from swarm_callback.options import Options
from swarm_callback.torch import SwarmCallback as TorchCallback

_BATCH_SIZE = 8  # the Trainer's default
_Hooks: Any = transformers.TrainerCallback


class SwarmCallback(TorchCallback, _Hooks):  # type: ignore[misc]
    """``Trainer(..., callbacks=[SwarmCallback(syncFrequency, minPeers, model=model, ...)])``.

    ``syncFrequency`` counts optimizer steps, however many batches are accumulated for each. ``hfMode``: "full" shares
    the whole model, "peft" only what is trained (the adapters). ``adsValData``: a DataLoader, or a dataset as the
    Trainer takes it, read in batches of ``adsValBatchSize`` (8 by default). The loss is the model's own unless
    ``lossFunction`` names another. Training stops when the swarm's training is over.
    """

    PLATFORMS: ClassVar[tuple[str, ...]] = ("HF_TRANSFORMER",)
    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = {"optimizer": "the Trainer has its own"}

    def optimizers_given(self, options: Options) -> list[Any]:
        """None yet: the Trainer's own optimizer is known when the training begins."""
        return []

    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        if not isinstance(data, DataLoader) and hasattr(data, "__len__") and hasattr(data, "__getitem__"):
            collate = transformers.default_data_collator
            data, batch_size = DataLoader(data, batch_size or _BATCH_SIZE, collate_fn=collate), None
        super().set_validation_data(data, batch_size)

    def on_train_begin(self, args: Any = None, state: Any = None, control: Any = None, **of: Any) -> None:  # type: ignore[override]
        """First merge."""
        self._optimizers = [one for one in (of.get("optimizer"),) if one is not None]
        self.batches_to_come = None if state is None else state.max_steps - state.global_step
        super().on_train_begin()
        self._stop_when_over(control)

    def on_step_end(self, args: Any = None, state: Any = None, control: Any = None, **_: Any) -> None:
        """Counts a step of the optimizer."""
        self.count_batches(1)
        self._stop_when_over(control)

    def on_epoch_end(self, args: Any = None, state: Any = None, control: Any = None, **_: Any) -> None:  # type: ignore[override]
        """Counts an epoch."""
        super().on_epoch_end()

    def on_train_end(self, args: Any = None, state: Any = None, control: Any = None, **_: Any) -> None:  # type: ignore[override]
        """Last merge."""
        super().on_train_end()

    def _stop_when_over(self, control: Any) -> None:
        if self.training_over and control is not None:
            control.should_training_stop = True
