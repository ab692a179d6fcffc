"""Stores task definitions that programs send as files in the usr-dir."""

import contextlib
import os
import secrets
from pathlib import Path, PurePosixPath

from services.errors import FileUnusable, SwarmError
from services.swci.usr_dir import UsrDir
from services.tasks.definition import read_task

SUFFIXES = (".yaml", ".yml")
LONGEST = 200


def store(files: UsrDir, name: str, content: bytes) -> PurePosixPath:
    """Puts a task definition into the current directory, whole or not at all; returns its path.

    It may replace another task definition, but nothing else. Raises FileUnusable, OutsideUsrDir.
    """
    if not name.endswith(SUFFIXES) or name.startswith(".") or len(name) > LONGEST or not name.isprintable():
        raise FileUnusable(path=name[:LONGEST], problem=f"a task definition has a name that ends in {SUFFIXES[0]}")
    real = files.resolve(name)
    if real.exists() and not _is_task(files, name):
        raise FileUnusable(path=name, problem="there is one already that is no task definition")
    _write(real, content)
    return files.shown(real)


def _is_task(files: UsrDir, name: str) -> bool:
    try:
        read_task(files.read(name), name)
    except SwarmError:
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
            file.write(content)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise FileUnusable(path=path.name, problem=f"it cannot be written ({(error.strerror or '').lower()})") from None
