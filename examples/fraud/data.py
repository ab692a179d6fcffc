"""Credit-card fraud, biased by node: files given, OpenML's data set, or rows generated in its shape."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SOURCE_VARIABLE = "FRAUD_DATA"
OPENML = "openml"
OPENML_ID = 1597  # creditcard, version 1
FEATURES = 30  # scaled amount, scaled time, V1 to V28
STEPS_PER_EPOCH = 20
VALIDATION_SHARE = 0.1
TEST_PER_CLASS = 90
# Rows and frauds of each node's training data: two banks hardly see a fraud, one sees little else.
SHARDS = ((3500, 2), (4000, 5), (2500, 37), (989, 400))
_SEED = 0

Examples = tuple[np.ndarray, np.ndarray]  # features (n, 30) float32, fraud (n,) float32: 0 or 1


@dataclass(frozen=True)
class Fraud:
    train: Examples
    validation: Examples  # a tenth of this node's rows
    test: Examples  # balanced, common to all nodes
    source: str

    @property
    def batch_size(self) -> int:
        return -(-len(self.train[1]) // STEPS_PER_EPOCH)


def load(shard: int | None, count: int) -> Fraud:
    """The data of one node; ``shard=None``: all of it on one machine."""
    shards, test, source = _read(os.environ.get(SOURCE_VARIABLE, ""))
    if count > len(shards):
        raise SystemExit(f"ERROR: {count} nodes, but there are {len(shards)} shards. Start no more than these.")
    mine = _joined(shards[:count]) if shard is None else shards[shard]
    features, fraud = mine
    order = np.random.default_rng(_SEED).permutation(len(fraud))
    known = order[: int(VALIDATION_SHARE * len(order))]
    rest = order[len(known) :]
    return Fraud((features[rest], fraud[rest]), (features[known], fraud[known]), test, source)


def _read(source: str) -> tuple[list[Examples], Examples, str]:
    if source == OPENML:
        return (*_cut(*_from_openml()), "creditcard of OpenML")
    if source:
        folders = sorted(Path(source).glob("node-*"))
        if not folders:
            raise SystemExit(
                f"ERROR: {SOURCE_VARIABLE} is {source}, where there is no node-1/train.csv. "
                f"Give a folder that has them, or the word {OPENML}."
            )
        test = _joined([_from_csv(folder / "test.csv") for folder in folders])
        return [_from_csv(folder / "train.csv") for folder in folders], test, f"the files in {source}"
    return (*_cut(*_generated()), "rows generated in the shape of the real data, not real ones")


def _from_csv(path: Path) -> Examples:
    """A header, thirty columns of features, the class (1: fraud) last."""
    try:
        rows = np.loadtxt(path, np.float32, delimiter=",", skiprows=1, ndmin=2)
    except (OSError, ValueError) as error:
        raise SystemExit(f"ERROR: {path} cannot be read as thirty features and a class: {error}.") from None
    if rows.shape[1] != FEATURES + 1:
        raise SystemExit(f"ERROR: {path} has {rows.shape[1]} columns instead of {FEATURES + 1}.")
    return _squeezed(rows[:, :-1]), rows[:, -1]


def _from_openml() -> Examples:
    from sklearn.datasets import fetch_openml  # downloads 70 MB once

    table = fetch_openml(data_id=OPENML_ID, as_frame=False, parser="liac-arff")
    features = np.asarray(table.data, np.float32)[:, -29:]  # V1 to V28 and Amount; Time is not in every version
    amount = np.log1p(features[:, -1:])
    return _squeezed(np.hstack([amount, np.zeros_like(amount), features[:, :-1]])), table.target.astype(np.float32)


def _generated() -> Examples:
    """Normal rows around 0; frauds far out in a third of the components, in three groups, as in the real data."""
    random = np.random.default_rng(_SEED)
    frauds = sum(some for _, some in SHARDS) + TEST_PER_CLASS
    rows = sum(count for count, _ in SHARDS) + 2 * TEST_PER_CLASS
    fraud = np.zeros(rows, np.float32)
    fraud[:frauds] = 1
    features = random.standard_t(4, (rows, FEATURES)).astype(np.float32)
    centers = random.normal(0, 2.2, (3, FEATURES)) * (random.random((3, FEATURES)) < 1 / 3)
    features[:frauds] += centers[random.integers(0, 3, frauds)].astype(np.float32)
    return _squeezed(features), fraud


def _cut(features: np.ndarray, fraud: np.ndarray) -> tuple[list[Examples], Examples]:
    random = np.random.default_rng(_SEED)
    bad, good = (random.permutation(np.flatnonzero(fraud == kind)) for kind in (1, 0))
    test = np.concatenate([bad[:TEST_PER_CLASS], good[:TEST_PER_CLASS]])
    shards, bad, good = [], bad[TEST_PER_CLASS:], good[TEST_PER_CLASS:]
    for rows, frauds in SHARDS:
        part = np.concatenate([bad[:frauds], good[: rows - frauds]])
        shards.append((features[part], fraud[part]))
        bad, good = bad[frauds:], good[rows - frauds :]
    return shards, (features[test], fraud[test])


def _squeezed(features: np.ndarray) -> np.ndarray:
    """Far outliers come nearer; it needs no statistics that nodes would have to agree on."""
    return np.arcsinh(features).astype(np.float32)


def _joined(parts: list[Examples]) -> Examples:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
