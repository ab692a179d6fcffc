"""Learns to see pneumonia with PyTorch Lightning and FedBN: the frozen backbone and each hospital's own batch
normalization stay at home. Alone with SWARM_LOOPBACK=true, or with others in a swarm.
"""

import logging

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from examples.run import Run
from examples.xray.backbone import WIDTH, filters
from examples.xray.data import STEPS_PER_EPOCH, Examples, load
from swarm_callback.lightning import SwarmCallback


class Network(pl.LightningModule):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        kernels = torch.from_numpy(filters()).permute(3, 2, 0, 1).contiguous()
        self.backbone = nn.Conv2d(1, len(kernels), WIDTH, bias=False)
        self.backbone.weight.data.copy_(kernels)
        self.backbone.requires_grad_(False)
        self.norm_first, self.norm_second = nn.BatchNorm2d(len(kernels), momentum=0.2), nn.BatchNorm2d(16, momentum=0.2)
        self.convolution, self.head = nn.Conv2d(len(kernels), 16, 3), nn.Linear(16, 2)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        seen = self.norm_first(nn.functional.max_pool2d(self.backbone(pictures).relu(), 2))
        return self.head(self.norm_second(self.convolution(seen).relu()).amax((2, 3)))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        pictures, kinds = batch
        return nn.functional.cross_entropy(self(pictures), kinds)

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.Adam([one for one in self.parameters() if one.requires_grad], 0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def loader(examples: Examples, batch_size: int, shuffle: bool = False) -> DataLoader:
    pictures, kinds = map(torch.from_numpy, examples)
    return DataLoader(TensorDataset(pictures.permute(0, 3, 1, 2), kinds), batch_size, shuffle=shuffle)


def main() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    run = Run.of("xray", epochs=25, sync_frequency=3)
    torch.manual_seed(run.seed)
    torch.set_num_threads(1)  # several nodes share this machine, and the model is small
    xray = load(run.shard, run.count)
    print(f"The data: {xray.source}", flush=True)
    model = Network(run.epochs * STEPS_PER_EPOCH)
    swarm = SwarmCallback(
        **run.swarm_options,
        model=model,
        keep_local=["backbone.*", "norm_*"],
        adsValData=loader(xray.train, 64),  # small hospitals have no pictures to spare
        lossFunction="CrossEntropyLoss",
        metricFunction="Accuracy",
        metricFunctionArgs={"task": "multiclass", "num_classes": 2},
    )
    trainer = pl.Trainer(
        max_epochs=run.epochs - swarm.initial_epoch, callbacks=[swarm], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(model, loader(xray.train, xray.batch_size, shuffle=True))
    model.eval()
    with torch.no_grad():
        found = [(model(pictures).argmax(1) == kinds).float() for pictures, kinds in loader(xray.test, 100)]
    run.finish(swarm, float(torch.cat(found).mean()), "lightning")


if __name__ == "__main__":
    main()
