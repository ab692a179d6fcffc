"""The ML program of benchmarks.callback: exchanges a model with an SL that gives it back at once.

Called with FRAMEWORK MEGABYTES ROUNDS COMPRESSION; the last line of its output is JSON: seconds, bytes.
"""

import json
import logging
import os
import sys
import time
from typing import Any

from benchmarks.memory import forget_peak, sample

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

MB = 1_000_000
MARKS = (100, 1000, 2000)  # merges after which what is resident is told
LAYERS = 16
WARM_UP = 3
QUARTERS = 4
LOGGER = logging.getLogger("benchmark")


def torch_callback(width: int, options: dict[str, Any]) -> Any:
    import torch  # noqa: PLC0415 - one framework in a process

    from swarm_callback.torch import SwarmCallback  # noqa: PLC0415

    model = torch.nn.Sequential(*(torch.nn.Linear(width, width, bias=False) for _ in range(LAYERS)))
    return SwarmCallback(1, 1, model=model, logger=LOGGER, **options)


def keras_callback(width: int, options: dict[str, Any]) -> Any:
    import keras  # noqa: PLC0415 - one framework in a process

    from swarm_callback.keras import SwarmCallback  # noqa: PLC0415

    layers = [keras.layers.Dense(width, use_bias=False) for _ in range(LAYERS)]
    model = keras.Sequential([keras.Input((width,)), *layers])
    model.compile("sgd", "mse")
    callback = SwarmCallback(1, 1, logger=LOGGER, **options)
    callback.set_model(model)
    return callback


def main() -> None:
    framework, megabytes, rounds, compression = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    width = round((megabytes * MB / 4 / LAYERS) ** 0.5)
    make = {"torch": torch_callback, "keras": keras_callback}[framework]
    callback = make(width, {"transferCompression": compression})
    idle = sample(os.getpid())
    forget_peak(os.getpid())
    callback.on_train_begin()
    took, resident = [], []
    for _ in range(WARM_UP + rounds):
        began = time.perf_counter()
        callback.count_batches(1)
        took.append(time.perf_counter() - began)
        resident.append(sample(os.getpid()).own)
    peak = sample(os.getpid()).peak - idle.resident
    callback.on_train_end()
    settled = resident[WARM_UP + rounds // QUARTERS - 1]
    told = {
        "seconds": took[WARM_UP:], "model": LAYERS * width**2 * 4, "peak": peak, "grown": resident[-1] - settled,
        "resident": {mark: resident[WARM_UP + mark - 1] for mark in MARKS if mark <= rounds},
    }  # fmt: skip
    print(json.dumps(told))


if __name__ == "__main__":
    main()
