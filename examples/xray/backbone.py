"""The frozen backbone: filters for edges, bars and spots, which stand where pretrained weights would be downloaded."""

import numpy as np

WIDTH = 7  # pixels
FREQUENCIES = (0.12, 0.25)  # waves in a pixel
DIRECTIONS = 6


def filters() -> np.ndarray:
    """Gabor filters and one spot, (WIDTH, WIDTH, 1, n) float32, the same on every node."""
    half = WIDTH // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    near = np.exp(-(x**2 + y**2) / (2 * 1.8**2))
    found = [near * (x**2 + y**2 - 2 * 1.8**2)]
    for frequency in FREQUENCIES:
        for direction in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
            found.append(near * np.cos(2 * np.pi * frequency * (x * np.cos(direction) + y * np.sin(direction))))
    centred = [one - one.mean() for one in found]
    return np.stack([one / np.linalg.norm(one) for one in centred], -1)[:, :, None, :].astype(np.float32)
