"""The usual script of SWCI, from the build of an image to a model, and an SWCI that runs it."""

import asyncio
from dataclasses import dataclass
from typing import Any

from swop_swarm import SwopSwarm

from services.local.plan import CODE_ROOT
from services.local.process import node_environment

CONTRACT = "defaultbb.cqdb.sml.hpe"
BUILD = """\
Name: user_env_build_task
TaskType: MAKE_USER_CONTAINER
Author: HPESwarm
Prereq: ROOTTASK
Outcome: {outcome}
Body:
  BuildContext: ~
  BuildType: INLINE
  BuildSteps:
  - FROM {base}
"""
RUN = """\
Name: run_task
TaskType: RUN_SWARM
Author: HPESwarm
Prereq: user_env_build_task
Outcome: run_task
Body:
  Command: /app/train.py {behaviour} /out 3
  Entrypoint: python3
  WorkingDir: /work
  Envvars:
  - SWARM_NODE_COUNT: 3
  PrivateContent: ~
  SharedContent:
  - Src: {usr}/app
    Tgt: /app
    MType: BIND
  - Src: {usr}/out
    Tgt: /out
    MType: BIND
"""
SCRIPT = """\
# the order that users know
EXIT ON FAILURE
WAIT FOR IP 127.0.0.1 {port} 5
CREATE CONTEXT test WITH IP 127.0.0.1 {port}
switch context test
cd /platform/swarm/usr
CREATE TASK FROM build.yaml
FINALIZE TASK user_env_build_task
GET TASK INFO user_env_build_task
GET TASK BODY user_env_build_task
LIST TASKS
RESET TASKRUNNER {runner}
ASSIGN TASK user_env_build_task TO {runner} WITH 2 PEERS
WAIT FOR TASKRUNNER {runner}
RESET TASKRUNNER {runner}
CREATE TASK FROM run.yaml
FINALIZE TASK run_task
ASSIGN TASK run_task TO {runner} WITH ALL PEERS
WAIT FOR TASKRUNNER {runner}
SLEEP 1
RESET TASKRUNNER {runner}
LIST CONTRACTS
RESET CONTRACT {contract}
EXIT
"""


@dataclass
class Commander:
    """A swarm whose SWOPs are there, and SWCIs for it."""

    swarm: SwopSwarm
    files: Any

    async def run(self, script: str, *more: str) -> tuple[int, str]:
        """Exit code and output of an init script."""
        (self.swarm.usr / "script").write_text(script)
        process = await asyncio.create_subprocess_exec(
            *self.swarm.swci_command(self.files, "--init-script-name", "script", *more),
            cwd=CODE_ROOT, env=node_environment(),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output = (await process.communicate())[0].decode()
        return process.returncode or 0, output
