"""Who is probed is known to be gone while nobody says anything."""

import socket

from services.runtime import probing


def test_connections_are_probed_like_their_listener_and_a_broken_one_is_known_in_half_a_minute() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        probing.probe(listening)
        with socket.create_connection(listening.getsockname()) as near, listening.accept()[0] as far:
            probing.probe(near)
            for end in (near, far):
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                idle, again, times = (
                    end.getsockopt(socket.IPPROTO_TCP, option)
                    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                )
                assert idle + again * times <= 30
