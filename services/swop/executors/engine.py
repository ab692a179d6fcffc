"""The supported container engines, and where their sockets are."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Engine:
    """What differs between engines, apart from their APIs."""

    kind: str
    title: str
    command: str
    install: str
    address_variable: str


DOCKER = Engine("DOCKER", "Docker", "docker", "apt install docker.io", "DOCKER_HOST")
PODMAN = Engine(
    "PODMAN", "Podman", "podman", "apt install podman, then systemctl enable --now podman.socket", "CONTAINER_HOST"
)


def address_of(engine: Engine, environment: Mapping[str, str] = os.environ) -> str:
    """The address of an engine: from its environment variable, else its package's default socket."""
    if given := environment.get(engine.address_variable):
        return given
    if engine is DOCKER:
        return "unix:///var/run/docker.sock"
    if os.geteuid() == 0:
        return "unix:///run/podman/podman.sock"
    runtime = environment.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    return f"unix://{Path(runtime) / 'podman' / 'podman.sock'}"
