"""A swarm of compose/compose.yaml, as commands of Docker: up, looked at, down."""

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.errors import LocalError
from services.identity.identity import Identity
from services.rpc.client import SNClient

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "compose"
USER = 1000
TAIL_CHARACTERS = 2000
NODE_IMAGES = ("license-server", "sn", "swop", "swci", "sl")
ANY_PORT = {"LICENSE_PORT": "0", "SN_PORT": "0", "SWCI_PORT": "0"}


class ContainersFailed(LocalError):
    """A command of Docker that did not succeed."""

    code = "containers-failed"
    message = "`{command}` failed with exit code {exit}"
    remedy = "See what it said last:\n{output}"


class DockerMissing(LocalError):
    """No program of this name."""

    code = "docker-missing"
    message = "{program} is not on the PATH"
    remedy = "Install Docker with its plugin Compose: https://docs.docker.com/compose/install."


async def docker(*words: str, environment: Mapping[str, str] | None = None, log: Path | None = None) -> str:
    """What ``docker WORDS`` printed; it goes to ``log`` too. Raises ContainersFailed, DockerMissing."""
    return await run("docker", *words, environment=environment, log=log)


async def run(*command: str, environment: Mapping[str, str] | None = None, log: Path | None = None) -> str:
    """What a command of this checkout printed; it ends where this is cancelled.

    Raises ContainersFailed, DockerMissing.
    """
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env={**os.environ, **(environment or {})}, stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe, stderr=pipe,
        )  # fmt: skip
    except FileNotFoundError:
        raise DockerMissing(program=command[0]) from None
    try:
        out, err = (text.decode(errors="replace") for text in await process.communicate())
    except asyncio.CancelledError:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.communicate()
        raise
    if log is not None:
        with log.open("a") as kept:
            kept.write(out + err)
    if process.returncode:
        said = (out + err)[-TAIL_CHARACTERS:].strip()
        raise ContainersFailed(command=" ".join(command), exit=process.returncode, output=said)
    return out


async def build_images(*names: str, log: Path | None = None, tag: str = "latest") -> None:
    """``names`` as docker/build knows them. Raises ContainersFailed, DockerMissing."""
    await run(str(ROOT / "docker" / "build"), "--tag", tag, *names, log=log)


@dataclass(frozen=True)
class ComposeSwarm:
    """One project of Docker Compose. ``settings``: variables of compose/README.md; ``out``: where its models go."""

    project: str
    out: Path
    peers: int = 3
    settings: Mapping[str, str] = field(default_factory=dict)

    async def compose(self, *words: str, log: Path | None = None) -> str:
        """What ``docker compose WORDS`` printed. Raises ContainersFailed, DockerMissing."""
        environment = {
            **ANY_PORT,
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_PROFILES": f"peers-{self.peers}",
            "PEERS": str(self.peers),
            "OUTPUT": str(self.out.absolute()),
            "RUN_AS": run_as(),
            **self.settings,
        }
        return await docker("compose", "--project-directory", str(FOLDER), *words, environment=environment, log=log)

    async def up(self, *services: str) -> None:
        """Returns when all containers have been started. The images must be there."""
        await self.compose("up", "--detach", "--no-build", "--quiet-pull", *services)

    async def down(self) -> None:
        """Nothing of it is left but its results."""
        await self.compose("down", "--volumes", "--timeout", "5")

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    async def client(self, keep: Path, sn: str = "sn-1") -> SNClient:
        """Of an SN, with the certificate of the SWCI; it is copied into the folder ``keep``."""
        await self.compose("cp", "swci:/cert/.", str(keep))
        identity = Identity.load(cert=keep / "cert.pem", key=keep / "key.pem", cacert=keep / "ca.pem")
        address = (await self.compose("port", sn, "30304")).strip()
        return SNClient(address, identity)


def run_as() -> str:
    """Who the containers are, and own the results: whoever calls, unless that is root."""
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{USER}:{USER}"


def hand_over(folder: Path) -> None:
    """Lets the user of the containers write there."""
    if os.getuid() == 0:
        os.chown(folder, USER, USER)
