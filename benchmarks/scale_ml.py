"""The ML programs of benchmarks.scale: one thread each, in one process, with a model of 1 KB.

Called as ``python -m benchmarks.scale_ml SYNCS FILE``: FILE holds one JSON object of channel variables per program.
Prints a line of JSON at the end: the times of each merged result, as the first and the last program saw it (seconds of
the system's monotonic clock).
"""

import json
import os
import sys
import threading
from pathlib import Path

from benchmarks.coordination_ml import TinyModel


def train(model: TinyModel, syncs: int, times: list[list[float]]) -> None:
    model.on_train_begin()
    for _ in range(syncs - 1):
        model.train()
    times.append(list(model.merged_at))
    model.on_train_end()


def main() -> None:
    syncs, programs = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    models = []
    for number, variables in enumerate(programs, 1):
        os.environ.update(variables)  # a session opens in the constructor, one after the other
        models.append(TinyModel(syncFrequency=1, minPeers=len(programs)))
        if number % 8 == 0 or number == len(programs):
            print(f"{number} programs enrolled", flush=True)
    times: list[list[float]] = []
    threads = [threading.Thread(target=train, args=(model, syncs, times)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rounds = list(zip(*times, strict=True))
    print(json.dumps({"first": [min(seen) for seen in rounds], "last": [max(seen) for seen in rounds]}), flush=True)


if __name__ == "__main__":
    main()
