"""Connections on which nobody says anything for long: the kernel asks now and then whether the other end is there."""

import socket

# Firewalls forget connections that are idle, the strictest after half a minute, and say so to nobody.
IDLE_S = 10
AGAIN_S = 5
GIVE_UP_AFTER = 3


def probe(connection: socket.socket) -> None:
    """A connection that a firewall has forgotten is known to be broken within 25 s; one that is asked is not forgotten.

    What a listening socket is given, the connections have that come by it.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, AGAIN_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, GIVE_UP_AFTER)
