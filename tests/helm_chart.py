"""The Helm chart as Helm renders it."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from parts import find_helm

ROOT = Path(__file__).parents[1]
CHART = ROOT / "kubernetes" / "swarm-learning"
NEWEST = kubernetes_validate.latest_version().removesuffix(".0")


def helm(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [
        find_helm(),
        command,
        *(["flu"] if command == "template" else []),
        str(CHART),
        "--kube-version",
        f"{NEWEST}.0",
    ]
    return subprocess.run([*words, *arguments], capture_output=True, text=True, check=False, timeout=60)


@dataclass(frozen=True)
class Rendered:
    """What Kubernetes would be given."""

    text: str
    objects: list[dict[str, Any]]

    @classmethod
    def by(cls, *arguments: str) -> "Rendered":
        done = helm("template", *arguments)
        assert done.returncode == 0, done.stderr
        return cls(done.stdout, [found for found in yaml.safe_load_all(done.stdout) if found])

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [found for found in self.objects if found["kind"] == kind]

    def pods(self) -> list[dict[str, Any]]:
        """Metadata and spec of each."""
        return [found["spec"]["template"] for found in self.objects if "template" in found.get("spec", {})]

    def containers(self) -> Iterator[dict[str, Any]]:
        for pod in self.pods():
            yield from pod["spec"]["containers"]

    def container(self, name: str) -> dict[str, Any]:
        return next(found for found in self.containers() if found["name"] == name)
