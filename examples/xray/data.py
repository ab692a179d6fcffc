"""Chest pictures of three hospitals whose scanners differ: generated, or the folder that the user gives."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER_VARIABLE = "XRAY_DATA"
SPLIT_SEED = 0  # the same cut on every node
SIDE = 32  # pixels
STEPS_PER_EPOCH = 6
TRAIN, TEST = 24, 200  # pictures of each hospital
KINDS = ("normal", "pneumonia")
# How each scanner shows the same chest: brightness, contrast, noise.
SCANNERS = ((0.0, 1.0, 0.05), (0.5, 0.5, 0.1), (-0.3, 1.6, 0.1))

Examples = tuple[np.ndarray, np.ndarray]  # pictures (n, SIDE, SIDE, 1) float32, kinds (n,) int64: 1 is pneumonia


@dataclass(frozen=True)
class Xray:
    train: Examples
    test: Examples  # of this hospital's own scanner; of all, for a run on all data
    source: str

    @property
    def batch_size(self) -> int:
        return -(-len(self.train[1]) // STEPS_PER_EPOCH)


def load(shard: int | None, count: int) -> Xray:
    """The data of one hospital; ``shard=None``: all of it on one machine."""
    folder = os.environ.get(FOLDER_VARIABLE)
    source = f"the pictures in {folder}" if folder else "pictures generated for this example, not of people"
    hospitals = _from_folder(Path(folder), count) if folder else [_generated(node) for node in range(count)]
    mine = hospitals if shard is None else [hospitals[shard]]
    return Xray(*(tuple(map(np.concatenate, zip(*part, strict=True))) for part in zip(*mine, strict=True)), source)


def _generated(node: int) -> tuple[Examples, Examples]:
    """Two dark lungs in a bright chest; pneumonia is a cloud of small spots in one of them."""
    random = np.random.default_rng([SPLIT_SEED, node])
    brightness, contrast, noise = SCANNERS[node % len(SCANNERS)]
    total = TRAIN + TEST
    kinds = np.arange(total) % 2
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    pictures = np.empty((total, SIDE, SIDE, 1), np.float32)
    for picture, kind in zip(pictures, kinds, strict=True):
        dx, dy = random.normal(0, 0.05, 2)
        width = random.uniform(0.3, 0.4)
        chest = np.full((SIDE, SIDE), 0.5)
        for side in (-0.45, 0.45):
            chest[((x - side - dx) / width) ** 2 + ((y - dy) / 0.75) ** 2 < 1] = -0.5
        if kind:
            at_x, at_y = random.choice((-0.45, 0.45)) + dx, random.uniform(-0.3, 0.3) + dy
            cloud = np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / 0.06)
            chest += 1.4 * cloud * random.choice((0.3, 1.0), size=chest.shape)
        picture[:, :, 0] = brightness + contrast * chest + random.normal(0, noise, chest.shape)
    return (pictures[:TRAIN], kinds[:TRAIN]), (pictures[TRAIN:], kinds[TRAIN:])


def _from_folder(folder: Path, count: int) -> list[tuple[Examples, Examples]]:
    """``folder/normal`` and ``folder/pneumonia``, dealt out to the hospitals; a third of each hospital's is for the
    test.
    """
    files = [(file, kind) for kind, name in enumerate(KINDS) for file in sorted((folder / name).glob("*"))]
    if len({kind for _, kind in files}) < len(KINDS):
        raise SystemExit(f"ERROR: {FOLDER_VARIABLE} is {folder}, which must have pictures in normal and in pneumonia.")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(files))
    hospitals = []
    for part in np.array_split(order, count):
        pictures = np.stack([_picture(files[index][0]) for index in part])
        kinds = np.array([files[index][1] for index in part])
        cut = len(part) // 3
        hospitals.append(((pictures[cut:], kinds[cut:]), (pictures[:cut], kinds[:cut])))
    return hospitals


def _picture(file: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L").resize((SIDE, SIDE)), np.float32)
    except (UnidentifiedImageError, OSError) as error:
        raise SystemExit(f"ERROR: {file} is no picture ({error}). Take it out of {FOLDER_VARIABLE}.") from None
    return (pixels / 127.5 - 1)[:, :, None]
