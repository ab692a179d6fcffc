"""A network namespace of a benchmark's own, so that nothing else counts in what its loopback device has moved."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

from benchmarks.base import say

INSIDE = "SWARM_BENCH_NAMESPACE"
DEVICE = "lo"
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


def enter(module: str) -> None:
    """Starts ``python -m module`` again with the same arguments in a new namespace, or returns within it.

    Where this user may not make one it returns too, and ``is_own`` says so.
    """
    if INSIDE in os.environ:
        _bring_up()
        return
    unshare = [shutil.which("unshare") or "unshare", "--net"]
    if os.geteuid():
        unshare += ["--user", "--map-root-user"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        say("No network namespace can be made here: what others move over the loopback device is counted too")
        return
    os.environ[INSIDE] = "1"
    os.execv(unshare[0], [*unshare, sys.executable, "-m", module, *sys.argv[1:]])  # noqa: S606  # no shell


def is_own() -> bool:
    """Whether nobody else uses this loopback device."""
    return INSIDE in os.environ


def moved_bytes() -> int:
    """What the loopback device has moved so far, with the headers of packets."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == DEVICE:
            return int(counts.split()[0])
    raise LookupError(DEVICE)


def _bring_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", DEVICE.encode(), 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", DEVICE.encode(), flags | _UP))
