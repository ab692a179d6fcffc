"""swarmLogCollector: collects what to send with a request for help, without keys, parameters or secrets."""

from __future__ import annotations

import io
import json
import platform
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from services.errors import HostNotReady, OptionUnusable
from services.scripts.container import NODE_LABEL
from services.scripts.engine import ContainerCommand, find
from services.scripts.images import LICENSE_SERVER, NODES, PREFIX

HIDDEN = "(hidden)"
FILE_LIMIT_BYTES = 1 << 20
LOG_LINES = 20_000

# Names of variables whose values are secret. Not SWARM_ID_KEY and the like, which hold a path.
_SECRET = re.compile(r"PASS|SECRET|TOKEN|CREDENTIAL|AUTH|COOKIE|DATABASE|API_?KEY|PRIVATE|ACCESS_?KEY", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_PASSWORD_IN_ADDRESS = re.compile(r"(\w+://[^\s:/@]*):[^\s@/]+@")
_ASSIGNED = re.compile(
    r"""(?P<name>[\w-]+)(?P<between>["']?\s*[:=][ \t]*)(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s,{}\[\]"']+)"""
)

_HELP = """swarmLogCollector [IMAGE_PREFIX] [workspace=DIRECTORY] [mlimage=IMAGE] [--engine docker|podman] [--sudo]

Writes swarm_logs_HOST_TIME.tar.gz: facts of this host, logs and descriptions of the nodes' containers, and the YAML
files of a workspace. Keys, parameters and the values of secret variables are left out; look into it before you send it.
"""


def collect(words: Sequence[str]) -> int:
    """Raises OptionUnusable, HostNotReady."""
    if "--help" in words or "-h" in words:
        print(_HELP)
        return 0
    prefix, workspace, images, engine = _read(words)
    engine.require()
    stem = f"swarm_logs_{socket.gethostname()}_{time.strftime('%Y%m%d_%H%M%S')}"
    path = Path(f"{stem}.tar.gz")
    try:
        with tarfile.open(path, "x:gz") as archive:
            for name, text in (*_host(engine), *_containers(engine, prefix, images), *_files(workspace)):
                _add(archive, f"{stem}/{name}", text)
    except OSError as error:
        path.unlink(missing_ok=True)
        problem = f"{path.absolute()} cannot be written: {error.strerror or error}"
        raise HostNotReady(
            problem=problem, advice="Go to a folder that can be written, and free space there."
        ) from None
    path.chmod(0o600)
    print(path)
    return 0


def without_secrets(text: str) -> str:
    """A text without private keys, passwords in addresses, and values whose names sound secret."""
    text = _PEM.sub(HIDDEN, text)
    text = _PASSWORD_IN_ADDRESS.sub(rf"\1:{HIDDEN}@", text)

    def hide(found: re.Match[str]) -> str:
        return f"{found['name']}{found['between']}{HIDDEN}" if _SECRET.search(found["name"]) else found[0]

    return _ASSIGNED.sub(hide, text)


def _read(words: Sequence[str]) -> tuple[str, Path | None, list[str], ContainerCommand]:
    prefix, workspace, images, wanted, sudo = PREFIX, None, [], "", False
    pending = list(words)
    while pending:
        word = pending.pop(0)
        name, equals, value = word.partition("=")
        if name == "workspace" and equals:
            workspace = Path(value)
            if not workspace.is_dir():
                raise OptionUnusable(option=word, problem="it is not a directory", script="swarmLogCollector")
        elif name == "mlimage" and equals and value:
            images.append(value)
        elif name == "--engine":
            wanted = value if equals else (pending.pop(0) if pending else "")
            if wanted not in ("docker", "podman"):
                raise OptionUnusable(option="--engine", problem="say docker or podman", script="swarmLogCollector")
        elif word == "--sudo":
            sudo = True
        elif not word.startswith("-") and not equals:
            prefix = word.rstrip("/")
        else:
            raise OptionUnusable(option=word, problem="it is not known", script="swarmLogCollector")
    return prefix, workspace, images, find(wanted, sudo=sudo)


def _host(engine: ContainerCommand) -> Iterator[tuple[str, str]]:
    yield "host.txt", f"{platform.platform()}\nPython {platform.python_version()}\n"
    release = Path("/etc/os-release")
    if release.is_file():
        yield "os-release.txt", release.read_text(encoding="utf-8", errors="replace")
    for name, command in {
        "engine-version.txt": engine.words("version"),
        "engine-info.txt": engine.words("info"),
        "images.txt": engine.words("image", "ls"),
        "containers.txt": engine.words("container", "ls", "--all"),
        "disk.txt": ["df", "-h"],
        "memory.txt": ["free", "-m"],
        "gpu.txt": ["nvidia-smi"],
        "clock.txt": ["timedatectl"],
    }.items():
        if shutil.which(command[0]):
            yield name, _said(command)


def _containers(engine: ContainerCommand, prefix: str, images: Sequence[str]) -> Iterator[tuple[str, str]]:
    conditions = [f"label={NODE_LABEL}", *(f"ancestor={image}" for image in images)]
    conditions += [f"ancestor={prefix}/{target}" for target in (*NODES, LICENSE_SERVER)]
    found: dict[str, None] = {}
    for condition in conditions:
        answer = engine.ask("container", "ls", "--all", "--filter", condition, "--format", "{{.Names}}")
        found.update(dict.fromkeys(answer.stdout.split()))
    for name in found:
        yield f"containers/{name}.log", _said(engine.words("container", "logs", "--tail", str(LOG_LINES), name))
        yield f"containers/{name}.json", _described(engine, name)


def _described(engine: ContainerCommand, name: str) -> str:
    answer = engine.ask("container", "inspect", name)
    try:
        described: list[dict[str, Any]] = json.loads(answer.stdout)
    except ValueError:
        return answer.stderr
    for container in described:
        variables = container.get("Config", {}).get("Env") or []
        container.get("Config", {})["Env"] = [_variable(entry) for entry in variables]
        container.pop("Args", None)  # arguments of a program may be anything
        container.get("Config", {}).pop("Cmd", None)
        container.get("Config", {}).pop("CreateCommand", None)
    return json.dumps(described, indent=1)


def _variable(entry: str) -> str:
    name, _, value = entry.partition("=")
    return f"{name}={HIDDEN}" if _SECRET.search(name) else f"{name}={without_secrets(value)}"


def _files(workspace: Path | None) -> Iterator[tuple[str, str]]:
    """Tasks and profiles. Does not follow links, as they may lead anywhere."""
    if workspace is None:
        return
    for path in sorted(path for ending in ("*.yaml", "*.yml") for path in workspace.rglob(ending)):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > FILE_LIMIT_BYTES:
            continue
        yield f"workspace/{path.relative_to(workspace)}", path.read_text(encoding="utf-8", errors="replace")


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}\n"
    return done.stdout


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = without_secrets(text).encode()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = len(content), int(time.time())
    archive.addfile(entry, io.BytesIO(content))
