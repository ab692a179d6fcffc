"""The SWOPs of a local swarm: their pairs, and the profiles that define these."""

import asyncio
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from services.identity.authority import IssuedFiles
from services.local.process import TASKS_END_WITHIN_S
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient

RUNNER = "defaulttaskbb.taskdb.sml.hpe"
CERTS = "/swarm-cert"


def profile_of(
    name: str,
    pairs: Sequence[IssuedFiles],
    host: str,
    *,
    license_port: int,
    sn_port: int,
    images: Sequence[str],
    indexes: Iterable[int] | None = None,
) -> str:
    """The profile of one SWOP in YAML: a pair for each certificate, and images mapped to the running Python.

    ``indexes``: of the pairs, which their programs find as SWARM_NODE_INDEX; by default counted from 0.
    """
    profile: dict[str, Any] = {
        "groupname": name,
        "taskrunner": RUNNER,
        "policyuri": None,
        "resourcemgr": {"mgrtype": "PROCESS", "accessinfo": {"accesstype": "FROMENV"}},
        "network": "host",
        "apls": {"locator": {"host": host, "port": license_port}},
        "apisrv": {"locator": {"host": host, "port": sn_port, "service": None}},
        "images": [{"image": image, "python": sys.executable} for image in images],
        "nodes": [
            {"slnodedef": _node(index, files, host)} for index, files in zip(indexes or count(), pairs, strict=False)
        ],
    }
    return yaml.safe_dump(profile, sort_keys=False)


async def end_tasks(client: SNClient, swops: Collection[str]) -> None:
    """Resets the taskrunner and returns once these SWOPs have removed what they started, which would outlive them.

    Raises TimeoutError, and what the SN answers.
    """
    status = await client.runners.GetRunner(pb.GetRunnerRequest(runner=RUNNER))
    if status.state in {pb.RUNNER_IDLE, pb.RUNNER_COMPLETE}:
        return
    await client.runners.ResetRunner(pb.ResetRunnerRequest(runner=RUNNER))
    async with asyncio.timeout(TASKS_END_WITHIN_S):
        async for newest in client.watch_runner(RUNNER):
            if all(agent.released >= agent.enrolled_in for agent in newest.agents if agent.name in swops):
                return


def _node(index: int, files: IssuedFiles, host: str) -> Mapping[str, Any]:
    return {
        "idx": index,
        "identity": [
            _file("KEY", files.key),
            _file("CERT", files.cert),
            _file("CACERT", files.cacert),
        ],
        "slhostip": host,
        "slhostname": None,
        "slport": None,
        "privatedata": None,
        "slenvvars": [{"SL_BIND_HOST": host}],
        "usrhostname": None,
        "usrenvvars": None,
    }


def _file(kind: str, path: Path) -> Mapping[str, Any]:
    target = f"{CERTS}/{path.name}"
    return {"attribute": {"aType": kind, "mType": "BIND", "src": str(path), "tgt": target, "subPath": None}}
