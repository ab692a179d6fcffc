"""A disk of its own for one SL, small enough to fill."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

SIZE_BYTES = 4 * 1024 * 1024
LEFT_BYTES = 64 * 1024
FILLER = "filler"


def missing() -> str:
    """Why there can be no such disk here; empty where there can."""
    if shutil.which("mount") is None:
        return "mount is not on the PATH"
    return "" if os.geteuid() == 0 else "only root may mount a small disk"


def make(path: Path) -> None:
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "chaos", str(path)], check=True)


def fill(path: Path) -> None:
    """Leaves room for small files and for no stream; again, where the node has made room since."""
    with (path / FILLER).open("ab") as filler:
        while (more := shutil.disk_usage(path).free - LEFT_BYTES) > 0:
            try:
                os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), more)
            except OSError as error:  # the node has written meanwhile
                if error.errno != errno.ENOSPC:
                    raise


def empty(path: Path) -> None:
    (path / FILLER).unlink(missing_ok=True)


def remove(path: Path) -> None:
    if os.path.ismount(path):
        subprocess.run(["umount", "--lazy", str(path)], check=True)
