"""Organizations that get kits of one project, and run their nodes from these kits as processes on this machine."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyzipper
import yaml

from services.cli.main import main
from services.identity.authority import Authority
from services.local.process import Child, Launch, node_environment
from tests.free_ports import free_port


def swarm(*arguments: object) -> None:
    """Runs a command that must succeed."""
    assert main([str(argument) for argument in arguments]) == 0


def node(name: str, role: str) -> dict[str, Any]:
    """A node for a project file, reached on this machine."""
    found: dict[str, Any] = {"name": name, "role": role, "address": "127.0.0.1", "port": free_port()}
    return {**found, "p2p_port": free_port()} if role == "sn" else found


def own_ca(directory: Path, name: str, trust_domain: str = "swarm.local") -> str:
    """Makes an organization's CA; returns the path of its certificate."""
    return str(Authority.create(directory / f"{name}-ca", name, trust_domain).cacert)


def write_project(path: Path, *organizations: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"project": path.stem, "organizations": list(organizations)}, sort_keys=False))
    return path


@dataclass
class Site:
    """One organization: its kit, unpacked in its own directory, and its running nodes."""

    kit: Path
    ca: Path | None = None

    @classmethod
    def unpack(cls, project: Path, name: str, ca: Path | None = None) -> "Site":
        """Unpacks the encrypted archive, with the password that came separately."""
        made = project.with_suffix("")
        sites = project.parent / f"{project.stem}-sites"
        with pyzipper.AESZipFile(made / f"{name}.zip") as archive:
            archive.setpassword((made / f"{name}.password").read_bytes().strip())
            archive.extractall(sites)
        return cls(sites / name, ca)

    def certify(self) -> None:
        """Makes requests here, which the organization's own CA answers."""
        swarm("certs", "request", self.kit / "certs" / "requests.yaml")
        swarm("certs", "sign", "--dir", self.ca, *sorted((self.kit / "certs").glob("*/*.csr")))

    def start(self, name: str) -> Child:
        """Starts a node by the kit's script."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = node_environment(PATH=path)
        launch = Launch(name, ("sh", "start", name), self.kit / f"{name}.log", environment, cwd=self.kit)
        return Child.start(launch)

    def channel(self, sl: str) -> tuple[Path, Path]:
        """The pipes of a training program."""
        pipes = self.kit / "pipes" / sl
        return pipes / "request.channel", pipes / "response.channel"
