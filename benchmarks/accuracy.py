"""How good a swarm's model is on data that is not spread evenly: local against central against swarm.

``python -m benchmarks.accuracy [--seeds 10] [--data digits,fraud,cancer] [--plot FILE]``

Five nodes train a network of one hidden layer with PyTorch and merge every few batches. Merges are the product's own
(services.merge); only that pipes, network and chain are left out, which change no bit of a result. Three scenes:
``label``: each node mostly sees some classes; ``size``: shards of 1 : 2 : 4 : 8 : 16, weights in proportion;
``poison``: even shards, and one node that gives the opposite of what it learned, ten times as far. The first merge
hands out one node's parameters. Fraud takes the files of FRAUD_DATA where set, else generated rows.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from benchmarks.report import at_least, goal, print_figures
from examples.digits.data import by_label
from services.merge.engine import ParameterSet, merge
from services.merge.layout import TensorLayout

NODES = 5
POISONED = NODES - 1
SCENES = ("label", "size", "poison")
METHODS = ("mean", "coordmedian", "geomedian", "trimmed_mean", "krum")
MEDIANS = ("coordmedian", "geomedian")
STEPS_PER_EPOCH, EPOCHS, SYNC = 12, 20, 6
RATE, MOMENTUM = 0.05, 0.9
HIDDEN = 64
OVERSHOT = 10.0
OF_CENTRAL = 0.005
OF_CENTRAL_POISONED = 0.02
FRAUD_COUNTS = 8.0

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Data:
    """Features (n, f) float32, classes (n,) int64; ``weights`` of the classes in the loss."""

    features: torch.Tensor
    classes: torch.Tensor
    test_features: torch.Tensor
    test_classes: torch.Tensor
    weights: torch.Tensor


def digits() -> Data:
    from examples.digits.data import load  # noqa: PLC0415 - only what is asked for

    return _data(load(None, NODES), torch.ones(10))


def fraud() -> Data:
    from examples.fraud.data import SHARDS, load  # noqa: PLC0415

    return _data(load(None, len(SHARDS)), torch.tensor([1.0, FRAUD_COUNTS]))


def cancer() -> Data:
    from examples.cancer.data import load  # noqa: PLC0415

    return _data(load(None, 1), torch.ones(2))


DATA: Mapping[str, Callable[[], Data]] = {"digits": digits, "fraud": fraud, "cancer": cancer}


def _data(loaded: Any, weights: torch.Tensor) -> Data:
    (features, classes), (tested, wanted) = (map(torch.from_numpy, part) for part in (loaded.train, loaded.test))
    return Data(features, classes.long(), tested, wanted.long(), weights)


class LocalTrainer:
    """One trainer: a model, its optimizer and its rows."""

    def __init__(self, data: Data, rows: np.ndarray, seed: int) -> None:
        self.data, self.rows = data, torch.from_numpy(rows)
        self.random = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        shape = data.features.shape[1], HIDDEN, len(data.weights)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(*shape[:2]), torch.nn.ReLU(), torch.nn.Linear(*shape[1:])
        )  # fmt: skip
        self.optimizer = torch.optim.SGD(self.model.parameters(), RATE, momentum=MOMENTUM, nesterov=True)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, EPOCHS * STEPS_PER_EPOCH)
        self.order = torch.empty(0, dtype=torch.int64)

    def train(self, steps: int) -> None:
        size = -(-len(self.rows) // STEPS_PER_EPOCH)
        for _ in range(steps):
            if not len(self.order):
                self.order = self.rows[torch.randperm(len(self.rows), generator=self.random)]
            batch, self.order = self.order[:size], self.order[size:]
            self.optimizer.zero_grad()
            scores = self.model(self.data.features[batch])
            torch.nn.functional.cross_entropy(scores, self.data.classes[batch], self.data.weights).backward()
            self.optimizer.step()
            self.schedule.step()

    def state(self) -> State:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def accuracy(self) -> float:
        found = self.model(self.data.test_features).argmax(1)
        return float((found == self.data.test_classes).float().mean())


def shards_of(scene: str, data: Data, seed: int) -> list[np.ndarray]:
    rows = np.random.default_rng(seed).permutation(len(data.classes))
    if scene == "label":
        return by_label(rows, data.classes.numpy(), NODES)
    if scene == "size":
        shares = np.cumsum([2**node for node in range(NODES)])
        return np.split(rows, (len(rows) * shares[:-1] / shares[-1]).astype(int))
    return np.array_split(rows, NODES)


def alone(data: Data, rows: np.ndarray, seed: int) -> float:
    node = LocalTrainer(data, rows, seed)
    node.train(EPOCHS * STEPS_PER_EPOCH)
    return node.accuracy()


def swarm(method: str, scene: str, data: Data, shards: Sequence[np.ndarray], seed: int) -> float:
    nodes = [LocalTrainer(data, rows, seed + index) for index, rows in enumerate(shards)]
    weights = [2**index if scene == "size" else 1 for index in range(NODES)]
    merged = nodes[0].state()
    for _ in range(EPOCHS * STEPS_PER_EPOCH // SYNC):
        given = []
        for index, node in enumerate(nodes):
            node.model.load_state_dict(merged)
            node.train(SYNC)
            state = node.state()
            if scene == "poison" and index == POISONED:
                state = {name: merged[name] - OVERSHOT * (state[name] - merged[name]) for name in state}
            given.append(state)
        merged = merged_by(method, given, weights)
    nodes[0].model.load_state_dict(merged)
    return nodes[0].accuracy()


def merged_by(method: str, states: Sequence[State], weights: Sequence[int]) -> State:
    names = sorted(states[0])
    layout = {name: TensorLayout("F32", tuple(states[0][name].shape)) for name in names}
    sets = [
        ParameterSet(f"sl-{index}", weight, layout, {name: state[name].numpy() for name in names})
        for index, (state, weight) in enumerate(zip(states, weights, strict=True))
    ]
    out = bytearray()
    spoiled = merge(method, sets, out.extend, threads=1)
    assert not spoiled, f"{spoiled} is not finite"
    values = torch.frombuffer(out, dtype=torch.float32).split([states[0][name].numel() for name in names])
    return {name: value.reshape(states[0][name].shape) for name, value in zip(names, values, strict=True)}


def run(names: Sequence[str], seeds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Mean accuracy on the test set over the seeds, by data, scene, and way of learning."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        data = DATA[name]()
        found[name] = {}
        for scene in SCENES:
            each: dict[str, list[float]] = {}
            for seed in range(seeds):
                shards = shards_of(scene, data, seed)
                lone = [alone(data, rows, seed) for rows in shards]
                each.setdefault("central", []).append(alone(data, np.concatenate(shards), seed))
                each.setdefault("best alone", []).append(max(lone))
                each.setdefault("mean alone", []).append(fmean(lone))
                for method in METHODS:
                    each.setdefault(method, []).append(swarm(method, scene, data, shards, seed))
            found[name][scene] = {way: round(fmean(values), 4) for way, values in each.items()}
            print(f"{name}, {scene}: {found[name][scene]}", flush=True)
    return found


def goals_of(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    goals = {}
    for name, scenes in found.items():
        for scene in ("label", "size"):
            ways = scenes[scene]
            goals[f"{name}_{scene}_below_central"] = goal(round(ways["central"] - ways["mean"], 4), OF_CENTRAL)
            goals[f"{name}_{scene}_above_alone"] = at_least(round(ways["mean"] - ways["best alone"], 4), 0.0)
        ways = scenes["poison"]
        for method in MEDIANS:
            below = round(ways["central"] - ways[method], 4)
            goals[f"{name}_poison_{method}_below_central"] = goal(below, OF_CENTRAL_POISONED)
    return goals


def plot(found: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - only for those who want a picture

    figure = Figure(figsize=(4 * len(SCENES), 3 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), len(SCENES), squeeze=False)
    for row, (name, scenes) in zip(panels, found.items(), strict=True):
        for panel, (scene, ways) in zip(row, scenes.items(), strict=True):
            panel.barh(list(ways), list(ways.values()), color=["0.4" if way not in METHODS else "C0" for way in ways])
            panel.axvline(ways["central"], color="black", linestyle="--")
            panel.set(title=f"{name}, {scene}", xlim=(0, 1))
    figure.savefig(path, dpi=120)


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    ways = ("central", "best alone", "mean alone", *METHODS)
    lines = ["".join(f"{word:>14}" for word in ("data", "scene", *ways))]
    lines += [
        "".join(f"{word:>14}" for word in (name, scene)) + "".join(f"{values[way]:>14.4f}" for way in ways)
        for name, scenes in found.items()
        for scene, values in scenes.items()
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    names = given.data.split(",")
    if unknown := sorted(set(names) - set(DATA)):
        parser.error(f"there is no data {unknown[0]}; there are {', '.join(DATA)}")
    torch.set_num_threads(1)
    found = run(names, given.seeds)
    print(table(found))
    if given.plot:
        plot(found, given.plot)
    print_figures({"seeds": given.seeds, "accuracy": found}, goals_of(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
