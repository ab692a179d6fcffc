"""The images of the executor PROCESS: Python environments of this host, by the image names in the profile."""

import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.errors import EnvironmentUnusable, ImageNotMapped
from services.swop.executors.spec import BuildSpec, PullSpec

CODE_ROOT = Path(__file__).parents[3]
LINKS_LIMIT = 40
CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class LocalEnvironment:
    """``python``: of the environment that stands for an image. ``entrypoint``: for an image that is our own code."""

    python: Path
    entrypoint: tuple[str, ...] = ()


class Environments:
    """Nothing is built or fetched: the environments in the profile already exist."""

    def __init__(self, images: Mapping[str, LocalEnvironment]) -> None:
        self._images = {_tagged(name): image for name, image in images.items()}

    def image(self, name: str) -> LocalEnvironment:
        """Raises ImageNotMapped, EnvironmentUnusable."""
        image = self._images.get(_tagged(name))
        if image is None:
            raise ImageNotMapped(image=name, mapped=", ".join(self._images) or "none")
        if not os.access(image.python, os.X_OK):
            raise EnvironmentUnusable(python=image.python, image=name, problem="there is no such program")
        return image

    async def build(self, spec: BuildSpec) -> AsyncGenerator[str, None]:
        """Raises as ``image`` does."""
        image = self.image(spec.image)
        yield f"{spec.image} is the environment of {image.python}, as the profile says; no step was run"

    async def pull(self, spec: PullSpec) -> AsyncGenerator[str, None]:
        """Raises as ``image`` does."""
        name = f"{spec.repository}:{spec.tag}"
        image = self.image(name)
        yield f"{name} is the environment of {image.python}, as the profile says; nothing was fetched"


def code_of(image: LocalEnvironment) -> list[Path]:
    """The paths that a program of an image reads: its environment, the Python from which that was made, source
    checkouts installed in it, our own code, and CA certificates.
    """
    environment = image.python.parent.parent
    found = [environment, CODE_ROOT, *_checkouts(environment)]
    hop = image.python
    for _ in range(LINKS_LIMIT):
        if not hop.is_symlink():
            break
        hop = Path(os.path.normpath(hop.parent / hop.readlink()))
        found.append(hop.parent.parent)
    found += [Path(os.environ[name]) for name in CA_VARIABLES if name in os.environ]
    return list(dict.fromkeys(found))


def _checkouts(environment: Path) -> list[Path]:
    lines = [
        line.strip()
        for file in environment.glob("lib/python3*/site-packages/*.pth")
        for line in file.read_text(errors="replace").splitlines()
    ]
    return [Path(line) for line in lines if line.startswith("/") and Path(line).is_dir()]


def _tagged(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"
