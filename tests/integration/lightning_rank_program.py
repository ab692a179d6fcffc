"""A training with PyTorch Lightning on two ranks; each saves what it ended with. See test_callback_ranks.py."""

import json
import logging
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch

from swarm_callback.lightning import SwarmCallback

BATCHES = 8  # of both ranks


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        inputs, wanted = batch
        return ((self.layer(inputs) - wanted) ** 2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def main() -> None:
    out = Path(sys.argv[1])
    torch.manual_seed(0)
    model = Net()
    swarm = SwarmCallback(2, 1, model=model, logger=logging.getLogger("test"))
    data = torch.utils.data.TensorDataset(torch.randn(BATCHES, 3), torch.randn(BATCHES, 2))
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", callbacks=[swarm], default_root_dir=out,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, torch.utils.data.DataLoader(data))
    swarm.save_parameters(out / f"{trainer.global_rank}.safetensors")
    told = {"history": [merge.round for merge in swarm.history], "over": swarm.training_over}
    (out / f"{trainer.global_rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
