"""Several ranks of one training by torchrun, Lightning or Slurm: rank 0 exchanges, all compute with the result."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from callback_swarm import Swarm
from slurm_cluster import slurm_cluster

RANKS = 2
DEADLINE_S = 60
PROGRAM = Path(__file__).with_name("rank_program.py")
LIGHTNING = Path(__file__).with_name("lightning_rank_program.py")

pytestmark = pytest.mark.timeout(240)


def torchrun(tmp_path: Path, how: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}",
        str(PROGRAM), str(tmp_path), how,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_all_ranks_have_the_result(swarm: Swarm, tmp_path: Path) -> None:
    assert [kind for kind in swarm.kinds() if kind != "Report"] == ["Open", "Sync", "Sync", "Sync", "Close", "Bye"]
    for rank in range(RANKS):
        assert (tmp_path / f"{rank}.safetensors").read_bytes() == swarm.final
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {"history": [1, 2, 3, 4], "over": True}


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_every_rank_has_the_merged_parameters_and_one_talks_with_the_sl(serve, tmp_path, how):
    swarm = Swarm()
    served = serve(swarm)
    done = torchrun(tmp_path, how)
    assert done.returncode == 0, done.stderr
    served.result(DEADLINE_S)
    assert_all_ranks_have_the_result(swarm, tmp_path)


def test_ranks_that_lightning_starts_are_one_node(serve, tmp_path):
    swarm = Swarm()
    served = serve(swarm)
    done = subprocess.run([sys.executable, LIGHTNING, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    served.result(DEADLINE_S)
    assert_all_ranks_have_the_result(swarm, tmp_path)


@pytest.mark.needs("slurm")
@pytest.mark.parametrize("program", [(PROGRAM, "slurm"), (LIGHTNING,)], ids=["torch", "lightning"])
def test_ranks_that_slurm_starts_are_one_node(serve, tmp_path, program):
    swarm = Swarm()
    served = serve(swarm)
    path, *how = program
    with slurm_cluster(tmp_path / "slurm") as srun:
        done = srun(RANKS, sys.executable, str(path), str(tmp_path), *how)
    assert done.returncode == 0, done.stderr
    served.result(DEADLINE_S)
    assert_all_ranks_have_the_result(swarm, tmp_path)


def test_every_rank_ends_when_the_training_of_the_swarm_is_over(serve, tmp_path):
    swarm = Swarm(over_at=2)
    served = serve(swarm)
    assert torchrun(tmp_path, "ddp").returncode == 0
    served.result(DEADLINE_S)
    for rank in range(RANKS):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {"history": [1, 2], "over": True}


def test_ranks_that_have_not_joined_each_other_are_a_sentence(serve, tmp_path):
    done = torchrun(tmp_path, "ungrouped")
    assert done.returncode != 0
    assert "one of 2 ranks (WORLD_SIZE), which are not connected yet" in done.stderr
