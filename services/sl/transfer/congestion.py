"""How a connection shares its link with others: the choice of TCP congestion control."""

import contextlib
import socket

# Does not back off for others. When all nodes read from all others, a dozen connections share each link: then a tenth
# of the packets are sent again, and the last connection keeps its low rate for long after the others have ended.
CROWDING = b"bbr"

# Used instead: the first one that the kernel has and allows this process.
SHARING = (b"cubic", b"reno")

_NAME_BYTES = 16


def share_link(connection: socket.socket) -> None:
    """For one of many parallel TCP connections. Leaves any other congestion control of the host alone."""
    if not hasattr(socket, "TCP_CONGESTION"):  # not Linux
        return
    used = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _NAME_BYTES)
    if used.rstrip(b"\0") != CROWDING:
        return
    for name in SHARING:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
            return
