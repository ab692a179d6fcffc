"""The work of benchmarks.round as a FedAvg job of NVFlare, in its simulator: run in the peer's own environment.

Called as ``nvflare_job.py BYTES NODES ROUNDS DIRECTORY``. Each client writes when it had the model of each round, and
what the loopback device had moved by then, to DIRECTORY/<site>.json; the aggregator its memory to server.json.
"""

import json
import sys
from pathlib import Path

import numpy as np
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.client.config import ExchangeFormat
from nvflare.fuel.utils.constants import FrameworkType
from nvflare.job_config.api import FedJob
from nvflare.job_config.script_runner import ScriptRunner

TENSORS = 10


class InMemoryFedAvg(FedAvg):
    """FedAvg as it is, but for models that need no file: it begins with zeros and saves nothing."""

    def __init__(self, size, directory, num_clients, num_rounds):  # each is written to the job by its name
        super().__init__(num_clients=num_clients, num_rounds=num_rounds, persistor_id="")
        self.size = size
        self.directory = directory

    def load_model(self):
        self.idle = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        values = self.size // 4 // TENSORS
        return FLModel(params={f"layer-{index}": np.zeros(values, np.float32) for index in range(TENSORS)})

    def save_model(self, model):
        """After each round."""
        facts = {"idle": self.idle, "peak": memory("VmHWM")}
        (Path(self.directory) / "server.json").write_text(json.dumps(facts))


def memory(field):
    """Bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def main():
    size, nodes, rounds, directory = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    job = FedJob(name="round", min_clients=nodes)
    job.to_server(InMemoryFedAvg(size, str(directory), num_clients=nodes, num_rounds=rounds))
    client = ScriptRunner(
        script=str(Path(__file__).with_name("nvflare_client.py")),
        script_args=str(directory),
        framework=FrameworkType.RAW,
        server_expected_format=ExchangeFormat.NUMPY,
    )
    job.to_clients(client)
    job.simulator_run(str(directory / "work"), n_clients=nodes, threads=nodes)


if __name__ == "__main__":
    main()
