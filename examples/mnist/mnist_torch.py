"""Learns MNIST with PyTorch: alone with SWARM_LOOPBACK=true, or with others in a swarm."""

from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

from examples.mnist.data import PIXELS, STEPS_PER_EPOCH, Examples, flat, load
from examples.run import Run
from swarmlearning.pyt import SwarmCallback


def own_loader() -> Examples:
    """Downloads MNIST once, to ~/.cache/mnist. Needs torchvision."""
    try:
        from torchvision.datasets import MNIST
    except ImportError:
        raise SystemExit("ERROR: There are no digits. Install torchvision, or set MNIST_FILE (README.md).") from None
    folder = Path.home() / ".cache" / "mnist"
    halves = [MNIST(str(folder), train=train, download=True) for train in (True, False)]
    return flat(torch.cat([half.data for half in halves]).numpy()), torch.cat([half.targets for half in halves]).numpy()


def loader(examples: Examples, batch_size: int, shuffle: bool = False) -> DataLoader:
    return DataLoader(TensorDataset(*map(torch.from_numpy, examples)), batch_size, shuffle=shuffle)


def build_model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(PIXELS, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))


def train(model: torch.nn.Module, batches: DataLoader, epochs: int, swarm: SwarmCallback) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * STEPS_PER_EPOCH)
    swarm.on_train_begin()
    for epoch in range(swarm.initial_epoch, epochs):
        if swarm.training_over:
            break
        for batch, (pictures, digits) in enumerate(batches):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(pictures), digits).backward()
            optimizer.step()
            schedule.step()
            swarm.on_batch_end(batch)
        swarm.on_epoch_end(epoch)
    swarm.on_train_end()


def main() -> None:
    run = Run.of("mnist", epochs=20, sync_frequency=6)
    torch.manual_seed(run.seed)
    torch.set_num_threads(1)  # several nodes share this machine, and the model is small
    mnist = load(run.shard, run.count, own_loader)
    model = build_model()
    swarm = SwarmCallback(
        **run.swarm_options,
        model=model,
        adsValData=loader(mnist.validation, 1000),
        lossFunction="CrossEntropyLoss",
        metricFunction="Accuracy",
        metricFunctionArgs={"task": "multiclass", "num_classes": 10},
    )
    train(model, loader(mnist.train, mnist.batch_size, shuffle=True), run.epochs, swarm)
    pictures, digits = map(torch.from_numpy, mnist.test)
    with torch.no_grad():
        accuracy = float((model(pictures).argmax(1) == digits).float().mean())
    run.finish(swarm, accuracy, "torch")


if __name__ == "__main__":
    main()
