"""Connections of a host that uses BBR share their link; those of another are left as they are."""

import socket
from collections.abc import Iterator

import pytest

from services.sl import congestion
from services.sl.congestion import CROWDING, SHARING, share_link


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


def use(connection: socket.socket, name: bytes) -> None:
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
    except OSError:
        pytest.skip(f"this kernel does not give {name.decode()} to this process")


def used(connection: socket.socket) -> bytes:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


def test_a_connection_that_crowds_others_out_does_so_no_more(connection: socket.socket) -> None:
    use(connection, CROWDING)
    share_link(connection)
    assert used(connection) in SHARING


def test_what_else_a_host_is_set_to_is_left_alone(connection: socket.socket) -> None:
    use(connection, b"reno")
    share_link(connection)
    assert used(connection) == b"reno"


def test_the_next_is_taken_where_the_kernel_refuses_one(
    connection: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(connection, CROWDING)
    monkeypatch.setattr(congestion, "SHARING", (b"nosuch", b"reno"))
    share_link(connection)
    assert used(connection) == b"reno"


def test_a_connection_stays_as_it_is_where_the_kernel_refuses_all(
    connection: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(connection, CROWDING)
    monkeypatch.setattr(congestion, "SHARING", (b"nosuch",))
    share_link(connection)
    assert used(connection) == CROWDING
