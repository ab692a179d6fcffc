"""Connections of a host that uses BBR share their link; those of another are left as they are."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.sl.transfer import congestion
from services.sl.transfer.congestion import share_link

ALWAYS = b"reno"  # every kernel has it and lets everybody have it
ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, ALWAYS)
        yield made


@pytest.fixture
def other() -> bytes:
    """Another one that this kernel lets everybody have."""
    return next(name for name in ALLOWED.read_bytes().split() if name != ALWAYS)


def used(connection: socket.socket) -> bytes:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


def test_what_else_a_host_is_set_to_is_left_alone(connection: socket.socket) -> None:
    share_link(connection)
    assert used(connection) == ALWAYS


@pytest.mark.parametrize("refused", [(), (b"nosuch",)])
def test_the_first_that_the_kernel_gives_takes_the_place_of_one_that_crowds(
    connection: socket.socket, other: bytes, monkeypatch: pytest.MonkeyPatch, refused: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(congestion, "CROWDING", ALWAYS)
    monkeypatch.setattr(congestion, "SHARING", (*refused, other))
    share_link(connection)
    assert used(connection) == other


def test_a_connection_stays_as_it_is_where_the_kernel_refuses_all(
    connection: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(congestion, "CROWDING", ALWAYS)
    monkeypatch.setattr(congestion, "SHARING", (b"nosuch",))
    share_link(connection)
    assert used(connection) == ALWAYS


class OfAHostWithBBR:
    """As the kernel names it, which not every kernel has."""

    def __init__(self) -> None:
        self.name = b"bbr".ljust(16, b"\0")

    def getsockopt(self, *_: Any) -> bytes:
        return self.name

    def setsockopt(self, _level: int, _option: int, name: bytes) -> None:
        self.name = name


def test_bbr_gives_way_to_cubic() -> None:
    connection: Any = OfAHostWithBBR()
    share_link(connection)
    assert connection.name == b"cubic"
