"""Learns handwritten digits with PyTorch: alone with SWARM_LOOPBACK=true, or with others in a swarm."""

import torch
from data import STEPS_PER_EPOCH, Digits, Run
from torch.utils.data import DataLoader, TensorDataset

from swarmlearning.pyt import SwarmCallback


def build_model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))


def loader(examples: tuple, batch_size: int, shuffle: bool = False) -> DataLoader:
    return DataLoader(TensorDataset(*map(torch.from_numpy, examples)), batch_size, shuffle=shuffle)


def train(model: torch.nn.Module, digits: Digits, epochs: int, swarm: SwarmCallback) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.08, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * STEPS_PER_EPOCH)
    batches = loader(digits.train, digits.batch_size, shuffle=True)
    first_epoch = swarm.initial_epoch  # where it was, if it was interrupted
    swarm.on_train_begin()
    for epoch in range(first_epoch, epochs):
        if swarm.training_over:
            break
        for batch, (pictures, labels) in enumerate(batches):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(pictures), labels).backward()
            optimizer.step()
            schedule.step()
            swarm.on_batch_end(batch)
        swarm.on_epoch_end(epoch)
    swarm.on_train_end()


def main() -> None:
    run = Run()
    torch.manual_seed(run.seed)
    torch.set_num_threads(1)  # several nodes share this machine, and the model is small
    digits = run.digits()
    model = build_model()
    swarm = SwarmCallback(
        syncFrequency=run.sync_frequency,
        minPeers=run.min_peers,
        trainingContract=run.contract,
        mergeMethod=run.merge_method,
        transferCompression=run.compression,
        useAdaptiveSync=run.adaptive,
        model=model,
        adsValData=loader(digits.validation, len(digits.validation[1])),
        lossFunction="CrossEntropyLoss",
        lossFunctionArgs={"reduction": "sum"},
        metricFunction="Accuracy",
        metricFunctionArgs={"task": "multiclass", "num_classes": 10},
        totalEpochs=run.epochs,
    )
    train(model, digits, run.epochs, swarm)
    pictures, labels = map(torch.from_numpy, digits.test)
    with torch.no_grad():
        accuracy = float((model(pictures).argmax(1) == labels).float().mean())
    run.finish(swarm, accuracy, "torch")


if __name__ == "__main__":
    main()
