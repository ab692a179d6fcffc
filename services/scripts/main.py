"""The entry point of all scripts in scripts/bin, which turns errors into a message and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.errors import SwarmError
from services.runtime.interrupts import INTERRUPTED
from services.scripts import certificates, logs, stopping
from services.scripts.engine import ContainerCommand, find
from services.scripts.nodes import COMMON, OPTIONS, build
from services.scripts.options import Given, Option, Parser
from services.scripts.running import run, show
from services.scripts.sidecar import ML, build_sidecar, user_of_ml

SCRIPTS = (*(f"run-{node}" for node in OPTIONS), "stop-swarm", "uninstall", "swarmLogCollector", "gen-cert")

ABOUT = {
    "run-sn": "Runs an SN: it holds the chain and coordinates the rounds.",
    "run-sl": "Runs an SL, and with --ml-image the ML program beside it.",
    "run-swop": "Runs a SWOP: it carries out tasks on this host.",
    "run-swci": "Runs the shell of a swarm.",
    "run-license-server": "Runs a license server.",
    "stop-swarm": "Stops and removes the nodes of this host. ML programs and license servers stay.",
    "uninstall": "Stops the nodes of this host, and removes their images and what a kit has installed.",
}


def main(script: str, words: Sequence[str]) -> int:
    """Runs one script and returns its exit code; a failure is reported in one line on stderr."""
    try:
        return _dispatch(script, list(words))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output is gone, as with `head`
        sys.stderr.close()
        return 1


def _dispatch(script: str, words: list[str]) -> int:
    if script == "gen-cert":
        return certificates.generate(words)
    if script == "swarmLogCollector":
        return logs.collect(words)
    if script in ("stop-swarm", "uninstall"):
        own = stopping.STOP_OPTIONS if script == "stop-swarm" else stopping.UNINSTALL_OPTIONS
        if "--help" in words:
            return _help(script, own)
        given, engine = _read(script, own, words)
        if script == "stop-swarm":
            return stopping.stop(given, engine)
        return stopping.uninstall(given, engine, Path(__file__).resolve().parents[2])
    return _run_node(script.partition("-")[2], words)


def _run_node(node: str, words: list[str]) -> int:
    own = {**OPTIONS[node], **COMMON}
    if "--help" in [word.lower() for word in _before_the_command(words)]:
        return _help(f"run-{node}", own)
    given, engine = _read(f"run-{node}", own, words, (ML,) if node == "sl" else ())
    if given.flag("detach") and given.flag("attach"):
        raise given.unusable("--attach", "it contradicts --detach; leave one out")
    if (user := user_of_ml(given)) and not given.values("user"):
        given.passed.append(("user", user))  # only their owner can open the pipes
    main_container = build(node, given, engine)
    containers = [main_container]
    for sidecar in given.sidecars.values():
        containers.append(build_sidecar(sidecar, main_container, given, engine))
    if given.flag("dry-run"):
        return show(containers, given, engine)
    return run(containers, given, engine)


def _read(
    script: str, own: Mapping[str, Option], words: Sequence[str], sidecars: Sequence[str] = ()
) -> tuple[Given, ContainerCommand]:
    """Finds the engine first, as only it knows the options of containers."""
    wanted = ""
    options = _before_the_command(words)
    for position, word in enumerate(options):
        name, equals, value = word.partition("=")
        if name.lower() == "--engine":
            wanted = value if equals else next(iter(options[position + 1 :]), "")
    given = Given(script)
    if wanted not in ("", "docker", "podman"):
        raise given.unusable("--engine", f"'{wanted}' is neither docker nor podman")
    engine = find(wanted, sudo="--sudo" in (word.lower() for word in options))
    known = engine if script.startswith("run-") else None
    return Parser(script, own, known, sidecars).parse(words), engine


def _before_the_command(words: Sequence[str]) -> list[str]:
    return list(words[: words.index("--")] if "--" in words else words)


def _help(script: str, own: Mapping[str, Option]) -> int:
    print(f"{script} [OPTIONS] [-- ARGUMENTS]\n\n{ABOUT[script]}\n")
    for name, option in own.items():
        shown = f"--{name}" + ("" if option.kind == "flag" else " VALUE")
        print(f"  {shown:<32} {option.text}")
    if script == "run-sl":
        print(f"  {'--ml-image IMAGE':<32} Image of the ML program; its other options:")
        print(f"  {'':<32} --ml-cmd, --ml-entrypoint, --ml-name, --ml-user, --ml-w, --ml-v, --ml-e, --ml-gpus, ...")
    if script.startswith("run-"):
        print("\nEvery option of `docker container create` is known too, such as --name, --network, -v, -e and -p.")
    return 0
