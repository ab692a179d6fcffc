"""Handwritten digits, 8x8 pixels, cut into private shards that differ; and where a run gets and leaves things."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SPLIT_SEED = 0  # the same cut on every node
TEST, VALIDATION = 450, 150  # of 1797 pictures; the rest is for training
HOME_SHARE = 0.9  # of the pictures of a digit, this share goes to the one node that mostly sees it
STEPS_PER_EPOCH = 12  # on every shard and on all data alike, so that runs compare

Examples = tuple[np.ndarray, np.ndarray]  # pictures (n, 64) float32, digits (n,) int64


@dataclass(frozen=True)
class Digits:
    train: Examples
    validation: Examples  # common to all nodes: they measure the merged model on it
    test: Examples  # common too, used once at the end

    @property
    def batch_size(self) -> int:
        return -(-len(self.train[1]) // STEPS_PER_EPOCH)


def load(shard: int | None, count: int) -> Digits:
    """The data of one node of ``count``; ``shard=None``: all of it on one machine."""
    from sklearn.datasets import load_digits  # other examples take the shards alone

    pictures, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits))
    test, validation, train = np.split(order, [TEST, TEST + VALIDATION])
    known = pictures[validation] / 16  # every node has these, so every node scales by the same numbers
    scaled = ((pictures / 16 - known.mean(0)) / (known.std(0) + 0.1)).astype(np.float32)
    mine = train if shard is None else by_label(train, digits, count)[shard]
    return Digits(*((scaled[part], digits[part].astype(np.int64)) for part in (mine, validation, test)))


def by_label(train: np.ndarray, digits: np.ndarray, count: int) -> list[np.ndarray]:
    """Equal shards. Node i mostly sees the digits i, i + count, ... and a few of the others."""
    random = np.random.default_rng(SPLIT_SEED)
    at_home = random.random(len(train)) < HOME_SHARE
    wanted = np.where(at_home, digits[train] % count, random.integers(0, count, len(train)))
    size = len(train) // count
    shards = [train[wanted == node] for node in range(count)]
    spare = np.concatenate([shard[size:] for shard in shards])
    for node, shard in enumerate(shards):
        missing = max(0, size - len(shard))
        shards[node] = np.concatenate([shard[:size], spare[:missing]])
        spare = spare[missing:]
    return shards


@dataclass(frozen=True)
class Run:
    """What the environment says about this run; see README.md for the names."""

    index: int = field(default_factory=lambda: int(os.environ.get("SWARM_NODE_INDEX", "0")))
    count: int = field(default_factory=lambda: int(os.environ.get("SWARM_NODE_COUNT", "3")))
    seed: int = field(default_factory=lambda: int(os.environ.get("SEED", "1")))
    epochs: int = field(default_factory=lambda: int(os.environ.get("MAX_EPOCHS", "20")))
    sync_frequency: int = field(default_factory=lambda: int(os.environ.get("SYNC_FREQUENCY", "6")))
    merge_method: str = field(default_factory=lambda: os.environ.get("MERGE_METHOD", "mean"))
    compression: str = field(default_factory=lambda: os.environ.get("TRANSFER_COMPRESSION", "none"))
    contract: str = field(default_factory=lambda: os.environ.get("TRAINING_CONTRACT", "defaultbb.cqdb.sml.hpe"))
    adaptive: bool = field(default_factory=lambda: os.environ.get("ADAPTIVE_SYNC", "false") == "true")
    started: float = field(default_factory=time.monotonic)

    @property
    def min_peers(self) -> int:
        return int(os.environ.get("MIN_PEERS", self.count))

    def digits(self) -> Digits:
        shard = os.environ.get("DATA_SHARD", str(self.index))
        return load(None if shard == "all" else int(shard), self.count)

    def finish(self, callback: Any, accuracy: float, framework: str) -> None:
        """Leaves the final parameters and the accuracy in the output directory."""
        folder = Path(os.environ.get("OUTPUT_DIR") or os.environ.get("MODEL_DIR") or "digits-out")
        name = os.environ.get("RUN_NAME", f"node-{self.index}")
        folder.mkdir(parents=True, exist_ok=True)
        callback.save_parameters(folder / f"{name}.safetensors")
        seconds = round(time.monotonic() - self.started, 2)
        report = {"name": name, "framework": framework, "accuracy": accuracy, "seconds": seconds}
        (folder / f"{name}.json").write_text(json.dumps(report) + "\n")
        print(f"{name}: accuracy {accuracy:.4f} on the common test set, in {seconds} s", flush=True)
