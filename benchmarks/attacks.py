"""Liars among the nodes: what each merge method makes of a training on real digits that some nodes attack.

``python -m benchmarks.attacks [--rounds 40] [--plot attacks.png]``: seven nodes, two of them liars; softmax regression
on the digits of scikit-learn, split at random; accuracy on a test set after every merge. The liars know what the honest
send and agree on one model, in three ways from the literature:

- ALIE (Baruch, Baruch, Goldberg, NeurIPS 2019): the honest mean less a multiple of their deviation;
- IPM (Xie, Koyejo, Gupta, UAI 2019): the honest step turned round and made longer;
- sign flip: each liar's own step turned round and made longer.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.report import at_least, goal, print_figures
from services.merge.engine import ParameterSet, merge
from services.merge.layout import TensorLayout

Array = NDArray[np.float32]

METHODS = ("mean", "coordmedian", "geomedian", "trimmed_mean", "krum")
NODES, LIARS = 7, 2
STEPS, RATE = 5, 0.5
CLASSES = 10


def alie(steps: Array) -> Array:
    return steps.mean(axis=0) - 40 * steps.std(axis=0)


def ipm(steps: Array) -> Array:
    return -10 * steps.mean(axis=0)


def sign_flip(steps: Array) -> Array:
    return -10 * steps[0]


ATTACKS: dict[str, Callable[[Array], Array] | None] = {"none": None, "ALIE": alie, "IPM": ipm, "sign flip": sign_flip}


def run(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Test accuracy after each round, by attack and method."""
    train, test = data()
    return {
        attack: {method: training(method, act, train, test, rounds) for method in METHODS}
        for attack, act in ATTACKS.items()
    }


def data() -> tuple[list[tuple[Array, NDArray[Any]]], tuple[Array, NDArray[Any]]]:
    """A shard for each node, and a test set that no node trains on."""
    pictures, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(3).permutation(len(labels))
    pictures = np.hstack([pictures / 16, np.ones((len(labels), 1))]).astype(np.float32)[order]
    labels = labels[order]
    cut = len(labels) * 3 // 4
    shards = list(zip(np.array_split(pictures[:cut], NODES), np.array_split(labels[:cut], NODES), strict=True))
    return shards, (pictures[cut:], labels[cut:])


def training(
    method: str,
    attack: Callable[[Array], Array] | None,
    train: list[tuple[Array, NDArray[Any]]],
    test: tuple[Array, NDArray[Any]],
    rounds: int,
) -> list[float]:
    model = np.zeros((65, CLASSES), np.float32)
    found = []
    for _ in range(rounds):
        steps = np.array([learned(model, *shard) - model for shard in train])
        if attack is not None:
            steps[:LIARS] = attack(steps[LIARS:])
        model = merged(method, model + steps)
        pictures, labels = test
        found.append(float(((pictures @ model).argmax(axis=1) == labels).mean()))
    return found


def learned(model: Array, pictures: Array, labels: NDArray[Any]) -> Array:
    """A few steps down the gradient of the cross entropy."""
    wanted = np.eye(CLASSES, dtype=np.float32)[labels]
    for _ in range(STEPS):
        scores = pictures @ model
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        model = model - RATE * pictures.T @ (odds - wanted) / len(labels)
    return model


def merged(method: str, models: Array) -> Array:
    layout = {"w": TensorLayout("F32", models[0].shape)}
    sets = [ParameterSet(f"sl-{index}", 1, layout, {"w": model}) for index, model in enumerate(models)]
    out = bytearray()
    assert merge(method, sets, out.extend) == ()
    return np.frombuffer(bytes(out), np.float32).reshape(models[0].shape)


def plot(figures: dict[str, dict[str, list[float]]], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415  # only for those who want a picture

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    _, panels = plt.subplots(1, len(figures), figsize=(4 * len(figures), 3.5), sharey=True, layout="constrained")
    for panel, (attack, methods) in zip(panels, figures.items(), strict=True):
        panel.set(title=attack, xlabel="round", ylim=(0, 1))
        for method, accuracy in methods.items():
            panel.plot(range(1, len(accuracy) + 1), accuracy, label=method)
    panels[0].set_ylabel("accuracy on the test set")
    panels[-1].legend()
    plt.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    figures = run(arguments.rounds)
    if arguments.plot:
        plot(figures, arguments.plot)
    last = {attack: {method: found[-1] for method, found in methods.items()} for attack, methods in figures.items()}
    goals = {}
    for attack in list(ATTACKS)[1:]:
        goals[f"mean under {attack}"] = goal(last[attack]["mean"], 0.6)
        for method in METHODS[1:]:
            goals[f"{method} under {attack}"] = at_least(last[attack][method], 0.9)
    print_figures({"nodes": NODES, "liars": LIARS, "accuracy": last}, goals)


if __name__ == "__main__":
    main()
