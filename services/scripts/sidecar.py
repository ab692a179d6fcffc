"""Containers beside a node: the ML program beside an SL, and others declared by --sidecar."""

from __future__ import annotations

import os
import pwd
import shlex

from services.errors import HostNotReady
from services.scripts.container import NODE_LABEL, Container, take_passed
from services.scripts.engine import ContainerCommand
from services.scripts.options import Given, Sidecar

ML = "ml"
# Where training programs look for their pipes by default; in the images every user can write there.
CHANNELS = "/tmp/hpe-swarm"  # noqa: S108 - a path inside of containers, which users know
CHANNEL_VARIABLES = {
    "SL_REQUEST_CHANNEL": f"{CHANNELS}/request.channel",
    "SL_RESPONSE_CHANNEL": f"{CHANNELS}/response.channel",
}


def user_of_ml(given: Given) -> str:
    """The user of the ML program: UID:GID as asked, else the caller; "" if there is no ML program."""
    if ML not in given.sidecars:
        return ""
    asked = [value for name, value in given.sidecars[ML].passed if name == "user" and value]
    return _whole_user(asked[-1], given) if asked else f"{os.getuid()}:{os.getgid()}"


def build_sidecar(sidecar: Sidecar, main: Container, given: Given, engine: ContainerCommand) -> Container:
    """Raises OptionUnusable, and HostNotReady for an ML program that could not open its pipes."""
    prefix, own = f"{sidecar.name}-", sidecar.own
    if not own.get("image"):
        raise given.unusable(f"--{prefix}image", f"give the image of the {sidecar.name.upper()} container")
    name = own.get("name") or f"{main.name}-{sidecar.name}"
    user = user_of_ml(given) if sidecar.name == ML else ""
    container = Container(name, own["image"], user)
    container.options += ["--name", name, "--label", f"{NODE_LABEL}={sidecar.name}"]
    if not any(option in ("network", "net") for option, _ in sidecar.passed) and main.network:
        container.options += ["--network", main.network]
    passed = [(option, value) for option, value in sidecar.passed if not (sidecar.name == ML and option == "user")]
    take_passed(container, passed, given, prefix)
    if container.user:
        container.options += ["--user", container.user]
    if engine.command == "podman" and os.geteuid() != 0 and not any(option == "userns" for option, _ in passed):
        container.options += ["--userns", "keep-id"]
    if own.get("pid-main"):
        container.options += ["--pid", f"container:{main.name}"]
    if sidecar.name == ML:
        _join_pipes(container, main)
    elif own.get("volumes-from-main"):
        container.options += ["--volumes-from", main.name]
    try:
        container.command += shlex.split(own.get("cmd", ""))
    except ValueError as error:
        raise given.unusable(f"--{prefix}cmd", f"its quotes do not match ({error})".lower()) from None
    return container


def _join_pipes(container: Container, main: Container) -> None:
    ml, sl = container.user.partition(":")[0], main.user.partition(":")[0]
    if ml not in (sl, "0"):
        problem = f"the pipes of the SL are open to their owner only, user {sl}, and the ML program runs as user {ml}"
        raise HostNotReady(problem=problem, advice="Give --user and --ml-user the same UID.")
    container.options += ["--volumes-from", main.name]
    for variable, path in CHANNEL_VARIABLES.items():
        container.env(variable, path)


def _whole_user(text: str, given: Given) -> str:
    """UID:GID; a UID alone gets the primary group of its user."""
    uid, colon, gid = text.partition(":")
    if not uid.isdecimal() or (colon and not gid.isdecimal()):
        raise given.unusable("--ml-user", f"'{text}' is not UID or UID:GID")
    if colon:
        return text
    try:
        return f"{uid}:{pwd.getpwuid(int(uid)).pw_gid}"
    except KeyError:
        raise given.unusable("--ml-user", f"this host has no user {uid}; give UID:GID") from None
