"""For connections that may be idle for long: the kernel checks from time to time whether the other end is there."""

import socket

# Firewalls silently forget idle connections, the strictest after half a minute.
IDLE_S = 10
AGAIN_S = 5
GIVE_UP_AFTER = 3


def probe(connection: socket.socket) -> None:
    """Turns on probes: a firewall does not forget a probed connection, and a broken one is noticed within 25 s.

    Accepted connections inherit this from a listening socket.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, AGAIN_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, GIVE_UP_AFTER)
