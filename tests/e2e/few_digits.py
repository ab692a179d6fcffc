"""Pictures in the form of MNIST, for tests of whether its example runs."""

from pathlib import Path

import numpy as np


def few_digits(directory: Path) -> Path:
    """A file of the form of mnist.npz, of random pictures."""
    random = np.random.default_rng(0)
    path = directory / "mnist.npz"
    pictures, digits = random.integers(0, 256, (300, 28, 28), np.uint8), random.integers(0, 10, 300, np.uint8)
    np.savez(path, x_train=pictures, y_train=digits, x_test=pictures[:50], y_test=digits[:50])
    return path
