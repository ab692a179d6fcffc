"""What the environment says about a run of an example, and what a run leaves; the same for all examples."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

ALL = "all"  # the shard of a run on all data


@dataclass(frozen=True)
class Run:
    """See README.md of each example for the names of the variables."""

    example: str
    epochs: int
    sync_frequency: int
    count: int
    index: int
    seed: int
    shard: int | None  # None: all data on one machine
    min_peers: int
    merge_method: str
    compression: str
    adaptive: bool
    contract: str
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, example: str, *, epochs: int, sync_frequency: int, nodes: int = 3) -> Self:
        """The numbers are what holds where a variable is not set."""
        variables = os.environ
        index = int(variables.get("SWARM_NODE_INDEX", "0"))
        count = int(variables.get("SWARM_NODE_COUNT", nodes))
        shard = variables.get("DATA_SHARD", str(index))
        return cls(
            example=example,
            epochs=int(variables.get("MAX_EPOCHS", epochs)),
            sync_frequency=int(variables.get("SYNC_FREQUENCY", sync_frequency)),
            count=count,
            index=index,
            seed=int(variables.get("SEED", "1")),
            shard=None if shard == ALL else int(shard),
            min_peers=int(variables.get("MIN_PEERS", count)),
            merge_method=variables.get("MERGE_METHOD", "mean"),
            compression=variables.get("TRANSFER_COMPRESSION", "none"),
            adaptive=variables.get("ADAPTIVE_SYNC", "false") == "true",
            contract=variables.get("TRAINING_CONTRACT", "defaultbb.cqdb.sml.hpe"),
        )

    @property
    def swarm_options(self) -> dict[str, Any]:
        """The parameters of SwarmCallback that the environment decides."""
        return {
            "syncFrequency": self.sync_frequency,
            "minPeers": self.min_peers,
            "trainingContract": self.contract,
            "mergeMethod": self.merge_method,
            "transferCompression": self.compression,
            "useAdaptiveSync": self.adaptive,
            "totalEpochs": self.epochs,
        }

    def finish(self, callback: Any, accuracy: float, framework: str, **others: float) -> None:
        """Leaves the final parameters that are shared, the accuracy and ``others`` in the output directory."""
        default = f"{self.example}-out"
        folder = Path(os.environ.get("OUTPUT_DIR") or os.environ.get("MODEL_DIR") or default)
        name = os.environ.get("RUN_NAME", f"node-{self.index}")
        folder.mkdir(parents=True, exist_ok=True)
        callback.save_parameters(folder / f"{name}.safetensors")
        seconds = round(time.monotonic() - self.started, 2)
        report = {"name": name, "framework": framework, "accuracy": accuracy, "seconds": seconds} | others
        (folder / f"{name}.json").write_text(json.dumps(report) + "\n")
        found = "".join(f", {word} {value:.4f}" for word, value in others.items())
        print(f"{name}: accuracy {accuracy:.4f}{found} on the test set, in {seconds} s", flush=True)
