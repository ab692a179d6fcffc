"""Makes and starts containers, and leaves nothing behind if one of them fails."""

from __future__ import annotations

import shlex
import socket
import subprocess
from collections.abc import Sequence

from services.errors import HostNotReady
from services.runtime.interrupts import INTERRUPTED
from services.scripts.container import BUILT_IN_NETWORKS, SENTINEL_LABEL, Container
from services.scripts.engine import ContainerCommand, first_line
from services.scripts.options import Given


def commands(containers: Sequence[Container], given: Given, engine: ContainerCommand) -> list[list[str]]:
    """All commands to run, in order, as printed by `--dry-run`."""
    main, *sidecars = containers
    found = [engine.words(*container.words) for container in containers]
    if given.flag("detach") or sidecars:
        found += [engine.words("container", "start", container.name) for container in containers]
        if not given.flag("detach"):
            found.append(engine.words("container", "logs", "--follow", main.name))
    else:
        found.append(engine.words(*_attached(main)))
    return found


def show(containers: Sequence[Container], given: Given, engine: ContainerCommand) -> int:
    """Prints the commands, for `--dry-run`."""
    for words in commands(containers, given, engine):
        print(shlex.join(words))
    return 0


def run(containers: Sequence[Container], given: Given, engine: ContainerCommand) -> int:
    """Runs the containers; returns the node's exit code. Raises HostNotReady, and then leaves no container."""
    check_host(containers, given, engine)
    made: list[str] = []
    try:
        for container in containers:
            _do(engine, container.words, f"make the container {container.name}")
            made.append(container.name)
        if given.flag("detach") or len(containers) > 1:
            for container in containers:
                _do(engine, ["container", "start", container.name], f"start the container {container.name}")
    except (HostNotReady, KeyboardInterrupt):
        if made:
            engine.ask("container", "rm", "--force", "--volumes", *made)
        raise
    if given.flag("detach"):
        print("\n".join(container.name for container in containers))
        return 0
    return _follow(containers, engine)


def check_host(containers: Sequence[Container], given: Given, engine: ContainerCommand) -> None:
    """Finds what `container create` would report too late or less clearly. Raises HostNotReady."""
    engine.require()
    for container in containers:
        if engine.knows("container", container.name):
            problem = f"there is a container {container.name} on this host already"
            raise HostNotReady(
                problem=problem, advice=f"Remove it ({engine.command} rm -f {container.name}), or give another --name."
            )
        if container.network and container.network not in BUILT_IN_NETWORKS and ":" not in container.network:
            _require_network(container.network, engine)
        if "always" not in given.values("pull") and not engine.knows("image", container.image):
            _require_image(container.image, given, engine)
        for port in container.published:
            _require_port(port, container.name)
    _refuse_second_sentinel(containers[0], engine)


def _require_network(name: str, engine: ContainerCommand) -> None:
    if not engine.knows("network", name):
        problem = f"{engine.command} has no network {name}"
        raise HostNotReady(problem=problem, advice=f"Make it: {engine.command} network create {name}.")


def _require_image(image: str, given: Given, engine: ContainerCommand) -> None:
    if "never" not in given.values("pull") and engine.ask("pull", "--quiet", image).returncode == 0:
        return
    problem = f"this host has no image {image}, and it cannot be pulled"
    raise HostNotReady(problem=problem, advice="Build it (docker/Dockerfile says how), or name another by --image.")


def _require_port(port: int, name: str) -> None:
    for family, address in ((socket.AF_INET, "0.0.0.0"),):  # noqa: S104 - only a test, no listener
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except PermissionError:  # a port below 1024; the engine may still use it
                continue
            except OSError:
                problem = f"port {port} of this host, which {name} is to be given, is in use"
                advice = f"Stop what uses it (`ss -ltnp 'sport = :{port}'` shows it), or give another port."
                raise HostNotReady(problem=problem, advice=advice) from None


def _refuse_second_sentinel(main: Container, engine: ContainerCommand) -> None:
    if f"{SENTINEL_LABEL}=true" not in main.options:
        return
    form = "{{.Names}} {{.Networks}}"
    answer = engine.ask("container", "ls", "--filter", f"label={SENTINEL_LABEL}=true", "--format", form)
    network = main.network or ("podman" if engine.command == "podman" else "bridge")
    for line in answer.stdout.splitlines():
        name, _, networks = line.partition(" ")
        if network in networks.split(","):
            problem = f"the container {name} is the sentinel on this network already, and a swarm has one"
            advice = f"Join it with --sentinel-ip, or stop it first ({engine.command} stop {name})."
            raise HostNotReady(problem=problem, advice=advice)


def _attached(main: Container) -> list[str]:
    return ["container", "start", "--attach", *(["--interactive"] if main.interactive else []), main.name]


def _follow(containers: Sequence[Container], engine: ContainerCommand) -> int:
    main, *sidecars = containers
    try:
        if not sidecars:
            return subprocess.run(engine.words(*_attached(main)), check=False).returncode
        waiting = subprocess.Popen(engine.words("container", "wait", main.name), stdout=subprocess.PIPE, text=True)
        subprocess.run(engine.words("container", "logs", "--follow", main.name), check=False)
        code = waiting.communicate()[0].strip()
        return int(code) if code.isdecimal() else 1
    except KeyboardInterrupt:
        engine.ask("container", "stop", *(container.name for container in containers))
        return INTERRUPTED


def _do(engine: ContainerCommand, words: Sequence[str], doing: str) -> None:
    done = subprocess.run(engine.words(*words), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        problem = f"{engine.command} did not {doing}: {first_line(done.stderr)}"
        raise HostNotReady(problem=problem, advice="Correct what it names; nothing was left behind.")
