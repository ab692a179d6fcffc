"""The ML program of benchmarks.recovery: a model of 1 KB and batches of a given length, until it is stopped.

Called as ``python -m benchmarks.recovery_ml BATCH_SECONDS MIN_PEERS``.
"""

import sys
import threading

from benchmarks.coordination_ml import TinyModel


def main() -> None:
    batch_s, min_peers = float(sys.argv[1]), int(sys.argv[2])
    callback = TinyModel(syncFrequency=1, minPeers=min_peers)
    callback.on_train_begin()
    while not callback.training_over:
        threading.Event().wait(batch_s)  # what a batch takes, without its work
        callback.train()


if __name__ == "__main__":
    main()
