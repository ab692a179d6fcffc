"""What a merge costs the ML program itself, beyond the wait for others: extract, write, read back, load.

``python -m benchmarks.callback [--size-mb 100] [--rounds 20] [--merges 2000] [--frameworks torch,keras]``

The SL is played by this process: over real pipes it takes the parameters and gives them back, and does nothing else.
Memory is the most that was resident in the ML program during its merges, above what it held with its model. Whether
it stays flat is seen on a model of 1 MB: what it owns after 100, 1,000 and 2,000 merges, and its growth from a quarter
of the merges to their end.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.report import goal, percentile, print_figures
from services.local.plan import CODE_ROOT
from swarm_callback import wire
from swarm_callback.channel import Channel, SLListener

TIME_GOAL_S = 0.25
COPIES_GOAL = 1.0
SLACK_COPIES = 0.1  # of the model: an allocator's pages, and what Python itself needs
GROWTH_GOAL_BYTES = 2_000_000
SMALL_MB = 1.0


def measured(framework: str, megabytes: float, rounds: int, compression: str = "none") -> dict[str, Any]:
    """What one ML program told. Raises RuntimeError where it failed."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name, ThreadPoolExecutor(1) as pool:
        folder = Path(name)
        with SLListener(folder / "request.channel", folder / "response.channel") as listener:
            served = pool.submit(serve, listener)
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.callback_ml", framework, str(megabytes), str(rounds), compression],
                env=os.environ | {
                    "SL_REQUEST_CHANNEL": str(listener.request), "SL_RESPONSE_CHANNEL": str(listener.response),
                },
                cwd=CODE_ROOT, stdout=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                listener.interrupt()
                raise RuntimeError(f"the {framework} program ended with exit code {done.returncode}")
            served.result()
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def serve(listener: SLListener) -> None:
    channel = listener.accept()
    body = bytearray()
    try:
        while True:
            message, size = channel.receive("it was measured")
            if len(body) != size and size:
                body = bytearray(size)
            if size:
                channel.read_body_into(memoryview(body), "it was measured")
            if isinstance(message, (wire.Bye, wire.Abort)):
                return
            answer(channel, message, body)
    finally:
        channel.close()


def answer(channel: Channel, message: wire.ChannelMessage, body: bytearray) -> None:
    if isinstance(message, wire.Open):
        channel.send(wire.Opened("sl-1", 1, False, 0), doing="it was measured")
    elif isinstance(message, (wire.Sync, wire.Close)):
        merged = wire.Merged(message.seq, message.seq, True, "", 0, isinstance(message, wire.Close))
        channel.send(merged, [memoryview(body)], doing="it was measured")


def figures_of(told: dict[str, Any]) -> dict[str, float]:
    return {
        "p50_s": round(percentile(told["seconds"], 50), 4),
        "p95_s": round(percentile(told["seconds"], 95), 4),
        "copies": round(told["peak"] / told["model"], 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.callback", description=__doc__)
    parser.add_argument("--size-mb", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--merges", type=int, default=2000, help="in which memory must stay flat; 0: not measured")
    parser.add_argument("--frameworks", default="torch,keras")
    given = parser.parse_args()
    figures: dict[str, Any] = {"size_mb": given.size_mb, "rounds": given.rounds, "merges": given.merges}
    goals: dict[str, dict[str, Any]] = {}
    for framework in given.frameworks.split(","):
        for compression in ("none", "bf16"):
            name = framework if compression == "none" else f"{framework}_{compression}"
            figures[name] = figures_of(measured(framework, given.size_mb, given.rounds, compression))
            print(f"{name}: {figures[name]}", flush=True)
            goals[f"{name}_copies"] = goal(figures[name]["copies"], COPIES_GOAL + SLACK_COPIES)
        goals[f"{framework}_p50_s"] = goal(figures[framework]["p50_s"], TIME_GOAL_S)
        if given.merges:
            told = measured(framework, SMALL_MB, given.merges)
            figures[framework]["grown_bytes"] = told["grown"]
            figures[framework]["resident_bytes"] = told["resident"]
            goals[f"{framework}_grown_bytes"] = goal(told["grown"], GROWTH_GOAL_BYTES)
    print_figures(figures, goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
