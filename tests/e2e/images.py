"""The images of this checkout, built once for all tests of a run; the next run takes what has not changed."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TAG = "test"
NODES = ("sn", "sl", "swci", "swop", "license-server")
ML = "ml"
BUILT_WITHIN_S = 580


def named(image: str) -> str:
    return f"swarm-learning/{image}:{TAG}"


@cache
def build() -> None:
    built = subprocess.run(
        ["docker/build", "--tag", TAG, *NODES, ML],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=BUILT_WITHIN_S,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
