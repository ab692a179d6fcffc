"""The ML program of benchmarks.commands: says when it started, trains a model of 1 KB, and says when it ended.

Called as ``commands_ml.py SYNCS DIRECTORY``; appends to ``DIRECTORY/<node index>.jsonl``. Seconds since the epoch.
"""

import time

STARTED_AT = time.time()  # before anything is imported that takes its time

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

if __name__ == "__main__":
    from coordination_ml import main  # the module beside this one

    main()
    with (Path(sys.argv[2]) / f"{os.environ['SWARM_NODE_INDEX']}.jsonl").open("a") as told:
        told.write(json.dumps({"started_at": STARTED_AT, "ended_at": time.time()}) + "\n")
