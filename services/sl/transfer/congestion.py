"""How a connection shares its link with others."""

import contextlib
import socket

# Does not back off beside others. Where all nodes read from all others, a dozen connections share each link: a tenth of
# the packets are sent again, and one that is left alone goes on for long at the rate that it had in the crowd.
CROWDING = b"bbr"

# In its place, the first that the kernel has and lets this process have.
SHARING = (b"cubic", b"reno")

_NAME_BYTES = 16


def share_link(connection: socket.socket) -> None:
    """For one of many connections of TCP at once. Leaves alone whatever else the host is set to."""
    if not hasattr(socket, "TCP_CONGESTION"):  # not Linux
        return
    used = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _NAME_BYTES)
    if used.rstrip(b"\0") != CROWDING:
        return
    for name in SHARING:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
            return
