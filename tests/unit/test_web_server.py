"""The sockets of HTTPS servers."""

import socket

from services.web.server import listen


def test_answers_are_not_held_back_for_an_acknowledgment() -> None:
    with (
        listen("127.0.0.1", 0, command="swci", port_option="--web-port") as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
