"""The SWOPs of a local swarm: which pairs each has, and the profile that says so."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from services.identity.authority import IssuedFiles

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
    """The profile of one SWOP in YAML: a pair for each certificate, images that stand for the Python that runs this.

    ``indexes``: of the pairs, which their programs find as SWARM_NODE_INDEX; counted from 0 without.
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
