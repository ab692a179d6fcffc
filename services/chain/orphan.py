"""Ends a geth that outlived the SN that started it, so that its database can be opened again."""

import asyncio
import os
import signal
from pathlib import Path

from services.runtime import logs as log_setup
from services.runtime.pidfd import open_pid

TERM_TIMEOUT_S = 20.0


async def end_orphan(pid_file: Path, database: Path) -> None:
    """Stops the process in ``pid_file`` if it is a geth on this database; otherwise does nothing."""
    pid = _geth_on(pid_file, database)
    if pid is None:
        return
    log_setup.get("geth").warning("a geth of an earlier run is still there; stopping it", pid=pid)
    try:
        descriptor = open_pid(pid)
    except ProcessLookupError:
        return
    try:
        os.kill(pid, signal.SIGTERM)
        if not await _ended(descriptor, TERM_TIMEOUT_S):
            os.kill(pid, signal.SIGKILL)
            await _ended(descriptor, TERM_TIMEOUT_S)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def _geth_on(pid_file: Path, database: Path) -> int | None:
    try:
        pid = int(pid_file.read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"--datadir" in arguments and os.fsencode(database) in arguments else None


async def _ended(descriptor: int, timeout_s: float) -> bool:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True
