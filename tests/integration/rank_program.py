"""One rank of a training by torchrun or Slurm, started by test_callback_ranks.py. It saves what it ended with."""

import json
import logging
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from swarm_callback.torch import SwarmCallback

BATCHES = 4


def main() -> None:
    out, how = Path(sys.argv[1]), sys.argv[2]
    if how == "slurm":
        rank, ranks = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
        dist.init_process_group("gloo", init_method=(out / "ranks").as_uri(), rank=rank, world_size=ranks)
    elif how != "ungrouped":
        dist.init_process_group("gloo")
        rank = dist.get_rank()
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    if how in {"ddp", "slurm"}:
        model = torch.nn.parallel.DistributedDataParallel(model)
    elif how == "fsdp":
        from torch.distributed.fsdp import fully_shard

        model = fully_shard(model, mesh=dist.init_device_mesh("cpu", (2,)))
    swarm = SwarmCallback(2, 1, model=model, logger=logging.getLogger("test"))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = torch.utils.data.TensorDataset(torch.randn(BATCHES, 3), torch.randn(BATCHES, 2))
    swarm.on_train_begin()
    for inputs, wanted in torch.utils.data.DataLoader(data):
        if swarm.training_over:
            break
        optimizer.zero_grad()
        ((model(inputs + rank) - wanted) ** 2).mean().backward()
        optimizer.step()
        swarm.on_batch_end()
    swarm.on_train_end()
    swarm.save_parameters(out / f"{rank}.safetensors")
    told = {"history": [merge.round for merge in swarm.history], "over": swarm.training_over}
    (out / f"{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
