"""The container engines that are known, and where they are found."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Engine:
    """What differs from engine to engine before one talks to it."""

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
    """Where an engine listens: as its variable says, else where its package puts the socket."""
    if given := environment.get(engine.address_variable):
        return given
    if engine is DOCKER:
        return "unix:///var/run/docker.sock"
    if os.geteuid() == 0:
        return "unix:///run/podman/podman.sock"
    runtime = environment.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    return f"unix://{Path(runtime) / 'podman' / 'podman.sock'}"
