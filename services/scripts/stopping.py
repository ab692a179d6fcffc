"""stop-swarm and uninstall: remove what the scripts or a SWOP have started on this host."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from services.errors import HostNotReady
from services.scripts.container import NODE_LABEL
from services.scripts.engine import ContainerCommand, first_line
from services.scripts.images import NODES, image_of
from services.scripts.options import FLAG, VALUE, Given, Option

STOP_WITHIN_S = 30

STOP_OPTIONS = {
    "all": Option(FLAG, "Every SN, SL, SWOP and SWCI of this host. This is the default."),
    **{node: Option(FLAG, f"Every {node.upper()}.") for node in NODES},
    "keep": Option(FLAG, "Stop them, but do not remove them."),
    "sudo": Option(FLAG, "Call the engine with sudo."),
    "engine": Option(VALUE, "docker or podman; docker if both are installed."),
    "dry-run": Option(FLAG, "Print the commands without running them."),
    "help": Option(FLAG, "Show this."),
}
UNINSTALL_OPTIONS = {name: STOP_OPTIONS[name] for name in ("sudo", "engine", "dry-run", "help")}

# The parts of an installation to remove. All else stays: certificates, workspaces, models.
INSTALLED = ("docs", "examples", "scripts", "services", "lib", "README.md")
INSTALLED_MARK = ".installed-by-kit"


def stop(given: Given, engine: ContainerCommand) -> int:
    """Stops nodes, SWOPs first so that they start nothing more. ML programs and license servers stay."""
    chosen = [node for node in ("swop", "swci", "sl", "sn") if given.flag(node)] or ["swop", "swci", "sl", "sn"]
    if given.flag("all"):
        chosen = ["swop", "swci", "sl", "sn"]
    if not given.flag("dry-run"):
        engine.require()
    found = [name for node in chosen for name in _of(node, engine)]
    steps = [["container", "stop", "--time", str(STOP_WITHIN_S), name] for name in found]
    if not given.flag("keep"):
        steps += [["container", "rm", "--force", "--volumes", name] for name in found]
    _carry_out(steps, given, engine)
    if not found:
        print("No node of a swarm is on this host.")
    return 0


def uninstall(given: Given, engine: ContainerCommand, root: Path) -> int:
    """Stops nodes, removes their images and the files of an installation; never a clone or what users made."""
    stop(given, engine)
    images = [image_of(node) for node in NODES]
    _carry_out([["image", "rm", image] for image in images if engine.knows("image", image)], given, engine)
    if not (root / INSTALLED_MARK).is_file():
        print(f"{root} is not an installation made from a kit, so its files stay; remove it by hand.")
        return 0
    for path in (root / name for name in INSTALLED):
        if not path.exists():
            continue
        print(f"rm -r {path}")
        if not given.flag("dry-run"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return 0


def _of(node: str, engine: ContainerCommand) -> list[str]:
    found: dict[str, None] = {}
    for condition in (f"ancestor={image_of(node)}", f"label={NODE_LABEL}={node}"):
        answer = engine.ask("container", "ls", "--all", "--filter", condition, "--format", "{{.Names}}")
        found.update(dict.fromkeys(answer.stdout.split()))
    return list(found)


def _carry_out(steps: Sequence[Sequence[str]], given: Given, engine: ContainerCommand) -> None:
    failed = []
    for words in steps:
        print(" ".join(engine.words(*words)))
        if given.flag("dry-run"):
            continue
        done = engine.ask(*words)
        if done.returncode != 0 and "no such container" not in done.stderr.lower():  # already removed by --rm
            failed.append(first_line(done.stderr))
    if failed:
        raise HostNotReady(problem=failed[0], advice="Correct what it names and call this again.")
