"""Finds out which process is at the other end of a connection within this host."""

import socket
import sys
from pathlib import Path

_ESTABLISHED = "01"


def is_from(process: int, connection: socket.socket) -> bool:
    """Whether, according to the kernel, ``process`` holds the other end of a TCP connection over IPv4 loopback.

    False if this user may not see that process's files. Takes longer the more connections the host has.
    """
    inode = _inode(local=connection.getpeername(), remote=connection.getsockname())
    if not inode:
        return False
    held = Path(f"/proc/{process}/fd")
    try:
        return any(_target(link) == f"socket:[{inode}]" for link in held.iterdir())
    except OSError:
        return False


def _inode(local: tuple[str, int], remote: tuple[str, int]) -> str:
    """The inode of the socket with these addresses; empty if there is none."""
    wanted = [_as_listed(*local), _as_listed(*remote), _ESTABLISHED]
    with Path("/proc/self/net/tcp").open(encoding="ascii") as table:
        for line in table:
            columns = line.split()
            if columns[1:4] == wanted:
                return columns[9]
    return ""


def _as_listed(host: str, port: int) -> str:
    """As in the kernel's table: the address as a number in this machine's byte order."""
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""
