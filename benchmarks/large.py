"""A model that no 32-bit size holds: two nodes, 4 GiB of random float32 each, real geth, mutual TLS, real pipes.

``python -m benchmarks.large [--size-mb 4096]`` (of 2**20 bytes)

Two rounds and the last one of the training; all nodes hold the same bytes at the end, those that the chain names. Needs
about nine times the model on disk below TMPDIR, and two and a half times in memory, for the programs.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import loopback
from benchmarks import round as rounds
from benchmarks.report import goal, print_figures
from services.errors import SwarmError

NODES = 2
MIB = 1 << 20
MEMORY_GOAL = 0.3  # of the model, at the node that leads and, as any may lead, at the other one
DISK_NEEDED, MEMORY_NEEDED = 9.0, 2.5  # models


def too_little(size: int) -> str | None:
    """What this machine lacks, in words."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < DISK_NEEDED * size:
        return f"{tempfile.gettempdir()} has {free >> 30} GiB free, {int(DISK_NEEDED * size) >> 30} are needed"
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    if available < MEMORY_NEEDED * size:
        return f"{available >> 30} GiB of memory are free, {int(MEMORY_NEEDED * size) >> 30} are needed"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument("--size-mb", type=int, default=4096)
    size = parser.parse_args().size_mb * MIB
    if (lack := too_little(size)) is not None:
        print(f"ERROR: {lack}", file=sys.stderr)
        return 1
    loopback.enter("benchmarks.large")
    os.environ |= {"SL_LOG_LEVEL": "DEBUG", "SWARM_LOG_FORMAT": "json"}  # phases are logged so
    try:
        figures = asyncio.run(rounds.run(size, NODES, rounds=1, warm_up=1))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    of_model = rounds.MB / size
    own = max(figures["peaks_mb"][f"sl-{index + 1}_own"] for index in range(NODES))
    figures |= {
        "sl_peak_of_model": round(figures["peaks_mb"]["sl"] * of_model, 3),
        "sl_peak_own_of_model": round(own * of_model, 3),
    }
    print_figures(figures, {"sl_peak_of_model": goal(figures["sl_peak_of_model"], MEMORY_GOAL)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
