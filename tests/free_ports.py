"""Ports for what is to be told one before it starts."""

import socket


def free_port(host: str = "") -> int:
    """One that nobody listens on now, at ``host`` or at any address of this one."""
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])
