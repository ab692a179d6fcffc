"""Scikit-learn's breast cancer data, in three hospitals, one of them tiny."""

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_breast_cancer

FEATURES = 30
STEPS_PER_EPOCH = 8
TEST, VALIDATION = 142, 57  # of 569 patients
SHARES = (0.55, 0.39)  # of the rest in the first two hospitals; the last has what is left
MOSTLY = 0.8  # of the first hospital's patients have benign tumours, of the second's malignant ones
_SEED = 0

Examples = tuple[np.ndarray, np.ndarray]  # features (n, 30) float32, benign (n,) int64: 0 or 1


@dataclass(frozen=True)
class Cancer:
    train: Examples
    validation: Examples
    test: Examples

    @property
    def batch_size(self) -> int:
        return -(-len(self.train[1]) // STEPS_PER_EPOCH)


def load(shard: int | None, count: int) -> Cancer:
    """The data of one hospital; ``shard=None``: all of it on one machine."""
    features, benign = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(_SEED).permutation(len(benign))
    test, validation, train = np.split(order, [TEST, TEST + VALIDATION])
    known = features[validation]  # every node has these, so every node scales by the same numbers
    scaled = ((features - known.mean(0)) / known.std(0)).astype(np.float32)
    mine = train if shard is None else _hospitals(train, benign, count)[shard]
    return Cancer(*((scaled[part], benign[part].astype(np.int64)) for part in (mine, validation, test)))


def _hospitals(train: np.ndarray, benign: np.ndarray, count: int) -> list[np.ndarray]:
    if count > 3:
        raise SystemExit(f"ERROR: {count} nodes, but there are three hospitals. Start no more than these.")
    sick, well = (train[benign[train] == kind] for kind in (0, 1))
    first, second = (int(share * len(train)) for share in SHARES)
    of_first = np.concatenate([well[: int(MOSTLY * first)], sick[: first - int(MOSTLY * first)]])
    rest = np.setdiff1d(train, of_first)
    sick, well = (rest[benign[rest] == kind] for kind in (0, 1))
    many = min(len(sick) - 5, int(MOSTLY * second))  # the tiny one has a few of each
    of_second = np.concatenate([sick[:many], well[: second - many]])
    of_third = np.setdiff1d(rest, of_second)
    return [of_first, of_second, of_third] if count == 3 else [of_first, np.concatenate([of_second, of_third])][:count]
