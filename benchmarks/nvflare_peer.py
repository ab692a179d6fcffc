"""NVFlare as the peer of benchmarks.round: its own virtual environment under .tools, its simulator, no TLS."""

import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.base import say
from benchmarks.report import percentile
from services.local.plan import CODE_ROOT

VERSION = "2.9.0"
ENVIRONMENT = CODE_ROOT / ".tools" / f"nvflare-{VERSION}"
JOB = Path(__file__).with_name("nvflare_job.py")
WARM_UP_ROUNDS = 2
WITHIN_S = 900.0
MB = 1_000_000


class NVFlareFailed(Exception):
    """What NVFlare said last."""


def install() -> None:
    """Makes its environment, once. Raises NVFlareFailed."""
    done = ENVIRONMENT / "complete"
    if done.exists():
        return
    say(f"Installing NVFlare {VERSION} into {ENVIRONMENT}, once ...")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)],
        [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", f"nvflare=={VERSION}"],
    ):
        made = subprocess.run(command, check=False, capture_output=True, text=True)
        if made.returncode:
            raise NVFlareFailed(f"NVFlare cannot be installed: {made.stderr.strip()[-500:]}")
    done.touch()


def run(size_mb: int, nodes: int, rounds: int) -> dict[str, Any]:
    """Seconds, bytes and the aggregator's memory. Raises NVFlareFailed."""
    say(f"NVFlare: {rounds} rounds")
    with tempfile.TemporaryDirectory(prefix="swarm-bench-peer-") as name:
        directory = Path(name)
        # What it has after its last round it does not hand to the clients: one more, to see the end of the last one.
        arguments = [str(size_mb * MB), str(nodes), str(WARM_UP_ROUNDS + rounds + 1), name]
        environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        with (directory / "log").open("w") as log:
            try:
                subprocess.run(
                    [str(ENVIRONMENT / "bin" / "python"), str(JOB), *arguments],
                    check=True, stdout=log, stderr=subprocess.STDOUT, timeout=WITHIN_S, cwd=directory, env=environment,
                )  # fmt: skip
            except (subprocess.SubprocessError, OSError) as error:
                tail = (directory / "log").read_text()[-1000:]
                raise NVFlareFailed(f"NVFlare failed ({type(error).__name__}):\n{tail}") from None
        return _figures(directory, nodes)


def _figures(directory: Path, nodes: int) -> dict[str, Any]:
    """From one round's model in the slowest client to the next one's."""
    clients = [json.loads((directory / f"site-{index + 1}.json").read_text()) for index in range(nodes)]
    slowest = [max(marks) for marks in zip(*clients, strict=True)][WARM_UP_ROUNDS:]
    seconds = [later[0] - earlier[0] for earlier, later in pairwise(slowest)]
    moved = [later[1] - earlier[1] for earlier, later in pairwise(slowest)]
    server = json.loads((directory / "server.json").read_text())
    return {
        "version": VERSION,
        "rounds": len(seconds),
        "p50_s": round(percentile(seconds, 50), 3),
        "min_s": round(min(seconds), 3),
        "lo_mb_per_round": round(sum(moved) / len(moved) / MB, 1),
        "aggregator_peak_mb": round((server["peak"] - server["idle"]) / MB, 1),
    }
