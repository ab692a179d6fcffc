"""Processes that need not be children: how to identify them, wait for them, and find what they started."""

import asyncio
import contextlib
import os
from pathlib import Path

from services.runtime.pidfd import open_pid


def number_in(path: Path) -> int | None:
    """The number in a file; None if there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; with the pid, this identifies it for good. 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


async def until_ended(pid: int) -> None:
    """Returns when a process, not necessarily a child, has ended."""
    try:
        descriptor = open_pid(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def grandchildren(pid: int) -> list[int]:
    """The living processes that a process's children started."""
    return [grandchild for child in _children(pid) for grandchild in _children(child)]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found
