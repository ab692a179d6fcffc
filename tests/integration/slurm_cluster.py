"""A Slurm cluster on this host alone: munged, slurmctld and slurmd. Only root can start them in this way."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.free_ports import free_port

STARTS_WITHIN_S = 60
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/linear
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES State=UP
"""

Srun = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Srun]:
    """Yields a function that runs a command as this many tasks of one step: ``srun(2, "hostname")``."""
    for part in (folder, folder / "state", folder / "spool"):
        part.mkdir(mode=0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=host, folder=folder, control=free_port(), daemon=free_port()))
    environment = {**os.environ, "SLURM_CONF": str(configuration)}

    def srun(tasks: int, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["srun", "--nodes=1", f"--ntasks-per-node={tasks}", "--overcommit", f"--immediate={STARTS_WITHIN_S}",
             *command],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    with ExitStack() as daemons:
        for command in (
            ["munged", "--foreground", "--force", "--key-file", key, "--socket", folder / "munge.socket",
             "--pid-file", folder / "munged.pid", "--log-file", folder / "munged.log", "--seed-file", folder / "seed"],
            ["slurmctld", "-D", "-i"],
            ["slurmd", "-D", "-N", host],
        ):  # fmt: skip
            with (folder / f"{command[0]}.out").open("wb") as output:
                daemon = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            daemons.callback(daemon.wait)
            daemons.callback(daemon.terminate)
        yield srun
