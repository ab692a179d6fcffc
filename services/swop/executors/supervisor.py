"""Supervises one local program, even when the SWOP is gone: bounds its stored output and records how it ended.

``python -m services.swop.executors.supervisor DIRECTORY``: the directory holds ``command.json``; ``pid`` appears when
the program runs, ``failed`` if it cannot be started, ``exit`` when it has ended.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

LOG_LIMIT_BYTES = 16 * 1024 * 1024  # of each of two files
PIECE_BYTES = 64 * 1024


def main(directory: Path) -> int:
    command = json.loads((directory / "command.json").read_text())
    os.chdir("/")  # so that no directory of the SWOP is kept in use
    try:
        process = _start(command)
    except (OSError, subprocess.SubprocessError) as error:
        _write(directory / "failed", getattr(error, "strerror", None) or str(error))
        return 1
    signal.signal(signal.SIGTERM, lambda *_: _signal_group(process.pid, signal.SIGTERM))
    _write(directory / "pid", str(process.pid))
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    _keep_output(process.stdout, directory)
    code = process.wait()
    _signal_group(process.pid, signal.SIGKILL)
    _write(directory / "exit", str(code if code >= 0 else 128 - code))
    return 0


def _start(command: dict[str, Any]) -> "subprocess.Popen[bytes]":
    """Starts the program in a session of its own. Only root changes to another user."""
    user: dict[str, Any] = {}
    if os.getuid() == 0 and command["uid"] is not None:
        user = {"user": command["uid"], "group": command["gid"], "extra_groups": []}
    return subprocess.Popen(
        command["argv"], env=command["environment"], cwd=command["cwd"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, umask=0o022, **user,
    )  # fmt: skip


def _keep_output(stream: IO[bytes], directory: Path) -> None:
    """Stores output until the program, and every process that inherited its output, has ended; only the newest part of
    long output.
    """
    log, size = (directory / "log").open("ab", buffering=0), 0
    while piece := os.read(stream.fileno(), PIECE_BYTES):
        with contextlib.suppress(OSError):  # a full disk must not stop the program
            log.write(piece)
        size += len(piece)
        if size > LOG_LIMIT_BYTES:
            log.close()
            (directory / "log").replace(directory / "log.old")
            log, size = (directory / "log").open("ab", buffering=0), 0
    log.close()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _write(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
