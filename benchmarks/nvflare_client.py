"""The training script of benchmarks.nvflare_job: distinct random float32, others each round, nothing trained."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import nvflare.client as flare

STEP = 1 << 18  # as in benchmarks.round_ml: another value in each megabyte


def moved_bytes():
    """By the loopback device so far."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    return next(int(line.split(":")[1].split()[0]) for line in lines if line.strip().startswith("lo:"))


def main():
    flare.init()
    site = flare.get_site_name()
    random = np.random.default_rng(int(site.rpartition("-")[2]))
    values, marks = {}, []
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        marks.append((time.monotonic(), moved_bytes()))
        (Path(sys.argv[1]) / f"{site}.json").write_text(json.dumps(marks))
        if not values:
            values = {name: random.random(len(zeros), np.float32) for name, zeros in received.params.items()}
        for array in values.values():
            array[::STEP] += np.float32(1)
        flare.send(flare.FLModel(params=values))


if __name__ == "__main__":
    main()
