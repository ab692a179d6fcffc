"""Learns to tell tumours with PyTorch: alone with SWARM_LOOPBACK=true, or with others in a swarm."""

import torch
from torch.utils.data import DataLoader, TensorDataset

from examples.cancer.data import FEATURES, STEPS_PER_EPOCH, Examples, load
from examples.run import Run
from swarmlearning.pyt import SwarmCallback


def loader(examples: Examples, batch_size: int, shuffle: bool = False) -> DataLoader:
    return DataLoader(TensorDataset(*map(torch.from_numpy, examples)), batch_size, shuffle=shuffle)


def build_model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(FEATURES, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))


def train(model: torch.nn.Module, batches: DataLoader, epochs: int, swarm: SwarmCallback) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * STEPS_PER_EPOCH)
    swarm.on_train_begin()
    for epoch in range(swarm.initial_epoch, epochs):
        if swarm.training_over:
            break
        for batch, (features, benign) in enumerate(batches):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(features), benign).backward()
            optimizer.step()
            schedule.step()
            swarm.on_batch_end(batch)
        swarm.on_epoch_end(epoch)
    swarm.on_train_end()


def main() -> None:
    run = Run.of("cancer", epochs=20, sync_frequency=2)
    torch.manual_seed(run.seed)
    torch.set_num_threads(1)  # several nodes share this machine, and the model is small
    cancer = load(run.shard, run.count)
    model = build_model()
    swarm = SwarmCallback(
        **run.swarm_options,
        nodeWeightage="samples",  # the tiny hospital weighs as many patients as it has
        model=model,
        adsValData=loader(cancer.validation, len(cancer.validation[1])),
        lossFunction="CrossEntropyLoss",
        metricFunction="Accuracy",
        metricFunctionArgs={"task": "multiclass", "num_classes": 2},
    )
    train(model, loader(cancer.train, cancer.batch_size, shuffle=True), run.epochs, swarm)
    features, benign = map(torch.from_numpy, cancer.test)
    with torch.no_grad():
        accuracy = float((model(features).argmax(1) == benign).float().mean())
    run.finish(swarm, accuracy, "torch")


if __name__ == "__main__":
    main()
