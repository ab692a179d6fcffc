"""The names of the images: the targets of docker/Dockerfile and docker/Dockerfile.ml, under one prefix."""

from __future__ import annotations

PREFIX = "swarm-learning"
TAG = "latest"

NODES = ("sn", "sl", "swop", "swci")
LICENSE_SERVER = "license-server"


def image_of(target: str, tag: str = TAG) -> str:
    """``target``: a node, license-server, ml-keras or ml-torch."""
    return f"{PREFIX}/{target}:{tag}"
