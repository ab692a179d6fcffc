"""The pods that the Helm chart describes, run as a kubelet runs them, find each other and train."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_swarms import PROGRAMS
from helm_chart import Rendered
from images import ML, TAG, build, named
from pods import Cluster

from swarm_callback.digest import digest_of_file

pytestmark = [
    pytest.mark.needs("docker", "helm"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.geteuid() != 0 and not os.environ.get("CI"), reason="only root makes volumes as a kubelet does"
    ),
]
ROLES = {"license-server": "license", "sn": "sn", "swci": "swci", "sl-1": "sl", "sl-2": "sl"}


def pair(index: int, programs: Path, out: Path) -> dict[str, Any]:
    volumes = {"programs": programs, "out": out}
    return {
        "name": f"sl-{index + 1}",
        "sl": {"settings": {"SL_KEEP_SERVING_SECONDS": "1"}},
        "ml": {
            "image": {"repository": named(ML).removesuffix(f":{TAG}"), "tag": TAG},
            "command": ["tini", "--", "python3", "/programs/train.py"],
            "args": ["train", "/out"],
            "env": {"SWARM_NODE_INDEX": str(index), "SWARM_NODE_COUNT": "2"},
            "volumes": [{"name": name, "hostPath": {"path": str(path)}} for name, path in volumes.items()],
            "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in volumes],
        },
    }


def secrets(pki: Any) -> dict[str, dict[str, Path]]:
    """Those that docs/kubernetes.md makes."""
    made = {}
    for node, role in ROLES.items():
        files = pki.issue(role, node, [f"flu-{node}.default.svc"])
        made[f"flu-{node}"] = {"tls.crt": files.cert, "tls.key": files.key}
    return made


def trust(pki: Any, directory: Path) -> dict[str, Path]:
    """A config map of a trust file and what it names."""
    issues: dict[str, list[str]] = {}
    for node, role in ROLES.items():
        issues.setdefault(role, []).append(node)
    one = {"name": "a", "trust_domain": pki.authority.trust_domain, "cas": ["a.pem"], "issues": issues}
    (directory / "trust.yaml").write_text(yaml.safe_dump({"organizations": [one]}))
    return {"trust.yaml": directory / "trust.yaml", "a.pem": pki.authority.cacert}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where programs leave their models."""
    tmp_path.chmod(0o755)
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    return tmp_path / "out"


async def test_pods_of_the_chart_find_each_other_and_end_with_one_model(tmp_path: Path, out: Path, pki: Any) -> None:
    build()
    values = {
        "images": {"tag": TAG},
        "identity": {"trustConfigMap": "flu-trust"},
        "training": [pair(index, PROGRAMS, out) for index in range(2)],
    }
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    named = {**secrets(pki), "flu-trust": trust(pki, tmp_path)}
    cluster = Cluster(Rendered.by("--values", str(tmp_path / "values.yaml")), tmp_path, named)
    try:
        await cluster.start()
        await cluster.succeeded("sl-1", "sl-2")
        await cluster.ready("swci")
    finally:
        await cluster.end()
    models = [out / f"{index}.safetensors" for index in range(2)]
    assert len({digest_of_file(model).digest() for model in models}) == 1
