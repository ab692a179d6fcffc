"""Docker or Podman by its command line: which one is here, which options it has, and how its commands end."""

from __future__ import annotations

import grp
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

from services.errors import HostNotReady

ENGINES = ("docker", "podman")
ANSWER_WITHIN_S = 60
DOCKER_SOCKET = "/var/run/docker.sock"

# In the help of `container create`: an option, its letter, and the placeholder of its value if it takes one.
_OPTION = re.compile(r"^\s{1,6}(?:-(?P<letter>\w), |\s{4})--(?P<name>[a-z][a-z0-9-]*)(?: (?P<value>\S+))?(?:\s{2,}|$)")


@dataclass(frozen=True)
class ContainerCommand:
    """``command``: docker or podman. ``prefix``: words before it, such as sudo."""

    command: str
    prefix: tuple[str, ...] = ()

    def words(self, *words: str) -> list[str]:
        """A whole command."""
        return [*self.prefix, self.command, *words]

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a quick command. Raises HostNotReady if the engine does not return in time."""
        try:
            return subprocess.run(
                self.words(*words), capture_output=True, text=True, timeout=ANSWER_WITHIN_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = f"`{' '.join(self.words(*words)[:4])}` does not come back: {error}"
            raise HostNotReady(problem=problem, advice=f"Look after {self.command} on this host.") from None

    def knows(self, kind: str, name: str) -> bool:
        """Whether there is an image, a network or a container of this name."""
        return self.ask(kind, "inspect", name).returncode == 0

    def require(self) -> None:
        """Raises HostNotReady if the engine does not answer, or not for this user."""
        answer = self.ask("info", "--format", "{{json .}}")
        if answer.returncode == 0 and '"ServerErrors":[' not in answer.stdout:
            return
        said = answer.stderr.strip() or answer.stdout
        if "permission denied" in said.lower():
            problem = f"user {os.geteuid()} may not use {self.command}"
            advice = "Let the user belong to the group of its socket (usually docker), or say --sudo."
        else:
            problem = f"{self.command} does not answer: {first_line(said) if len(said) < 1000 else 'no server'}"
            advice = "Start it (systemctl start docker), and see that DOCKER_HOST or CONTAINER_HOST is right if set."
        raise HostNotReady(problem=problem, advice=advice)


@lru_cache(maxsize=4)
def options_of(engine: ContainerCommand) -> tuple[dict[str, bool], dict[str, str]]:
    """The options of this engine's `container create`: option -> whether it takes a value, and letter -> option."""
    answer = engine.ask("container", "create", "--help")
    takes_value: dict[str, bool] = {}
    letters: dict[str, str] = {}
    for line in answer.stdout.splitlines():
        found = _OPTION.match(line)
        if found is None:
            continue
        takes_value[found["name"]] = found["value"] is not None
        if found["letter"]:
            letters[found["letter"]] = found["name"]
    if "volume" not in takes_value:
        problem = f"`{engine.command} container create --help` does not list its options"
        raise HostNotReady(problem=problem, advice=f"Install {engine.command} anew.")
    return takes_value, letters


def find(wanted: str = "", *, sudo: bool = False) -> ContainerCommand:
    """The engine asked for, else Docker, else Podman. Raises HostNotReady if it is not installed."""
    here = [command for command in ((wanted,) if wanted else ENGINES) if shutil.which(command)]
    if not here:
        names = wanted or "neither docker nor podman"
        problem = f"{names} is not installed here" if wanted else f"{names} is installed here"
        raise HostNotReady(problem=problem, advice="Install one (on Debian: apt install docker.io).")
    command = here[0]
    return ContainerCommand(command, ("sudo",) if sudo or _needs_sudo(command) else ())


def first_line(text: str) -> str:
    """The line that matters in an engine's message, without the usual prefixes."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    line = next((line for line in lines if "rror" in line), lines[0] if lines else "it says nothing")
    return re.sub(r"^(Error( response from daemon)?|docker|ERROR): ", "", line).rstrip(".")


def group_of_docker() -> int | None:
    """The group that may use Docker; None if there is none."""
    try:
        return grp.getgrnam("docker").gr_gid
    except KeyError:
        return None


def _needs_sudo(command: str) -> bool:
    """Whether the user needs sudo for Docker's socket, and sudo exists. Podman needs no root."""
    if command != "docker" or os.geteuid() == 0 or "DOCKER_HOST" in os.environ or not shutil.which("sudo"):
        return False
    return not os.access(DOCKER_SOCKET, os.R_OK | os.W_OK)
