"""Organizations that get kits of one project, and run their nodes from them as processes of this machine."""

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
    """A command that succeeds."""
    assert main([str(argument) for argument in arguments]) == 0


def node(name: str, role: str) -> dict[str, Any]:
    """Of a project file, reached at this machine."""
    found: dict[str, Any] = {"name": name, "role": role, "address": "127.0.0.1", "port": free_port()}
    return {**found, "p2p_port": free_port()} if role == "sn" else found


def own_ca(directory: Path, name: str, trust_domain: str = "swarm.local") -> str:
    """A CA of an organization; gives the path of its certificate."""
    return str(Authority.create(directory / f"{name}-ca", name, trust_domain).cacert)


def write_project(path: Path, *organizations: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"project": path.stem, "organizations": list(organizations)}, sort_keys=False))
    return path


@dataclass
class Site:
    """One organization: what it got, unpacked in a directory of its own, and what it runs."""

    kit: Path
    ca: Path | None = None

    @classmethod
    def unpack(cls, project: Path, name: str, ca: Path | None = None) -> "Site":
        """From the encrypted archive, with the password that came by another way."""
        made = project.with_suffix("")
        sites = project.parent / f"{project.stem}-sites"
        with pyzipper.AESZipFile(made / f"{name}.zip") as archive:
            archive.setpassword((made / f"{name}.password").read_bytes().strip())
            archive.extractall(sites)
        return cls(sites / name, ca)

    def certify(self) -> None:
        """Its own CA answers the requests that are made here."""
        swarm("certs", "request", self.kit / "certs" / "requests.yaml")
        swarm("certs", "sign", "--dir", self.ca, *sorted((self.kit / "certs").glob("*/*.csr")))

    def start(self, name: str) -> Child:
        """By the script of the kit."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = node_environment(PATH=path)
        launch = Launch(name, ("sh", "start", name), self.kit / f"{name}.log", environment, cwd=self.kit)
        return Child.start(launch)

    def channel(self, sl: str) -> tuple[Path, Path]:
        """Of a training program."""
        pipes = self.kit / "pipes" / sl
        return pipes / "request.channel", pipes / "response.channel"
