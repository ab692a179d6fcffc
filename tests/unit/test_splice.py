"""A connection to another host: whatever becomes of an attempt, nothing stays open."""

import asyncio
import contextlib
import gc
import socket
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from services.runtime import splice
from services.runtime.splice import connect


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1")
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.contextmanager
def nothing_stays_open() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(warning.message) for warning in warned] == []


def resolved_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Has every name stand for these addresses."""

    async def found(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)


@pytest.mark.parametrize("turns", range(20))
async def test_an_attempt_that_is_given_up_leaves_no_socket(
    port: int, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """In whichever turn of the event loop that is: also when it has just succeeded."""
    resolved_to(monkeypatch, ("127.0.0.1", port), ("127.0.0.1", port))
    monkeypatch.setattr(splice, "NEXT_ADDRESS_AFTER_S", 0.0)
    for host in ("127.0.0.1", "example.org"):
        with nothing_stays_open():
            attempt = asyncio.create_task(connect(host, port))
            for _ in range(turns):
                await asyncio.sleep(0)  # noqa: TID251 - one turn
            attempt.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                end = await attempt
                end.close()
                await end.ended
            del attempt


async def test_a_host_is_reached_by_the_address_that_answers(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one answers nothing: it listens, but its queue is full. The second one refuses."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, socket.create_server(("127.0.0.1", 0)) as gone:
        refusing = gone.getsockname()
        gone.close()
        monkeypatch.setattr(splice, "NEXT_ADDRESS_AFTER_S", 0.01)
        with socket.create_connection(silent.getsockname()), nothing_stays_open():
            resolved_to(monkeypatch, silent.getsockname(), refusing, ("127.0.0.1", port))
            end = await connect("example.org", port)
            assert end.transport.get_extra_info("peername") == ("127.0.0.1", port)
            end.close()
            await end.ended


async def test_a_host_that_refuses_by_all_addresses_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        refusing = gone.getsockname()
    resolved_to(monkeypatch, refusing, refusing)
    with nothing_stays_open(), pytest.raises(ConnectionRefusedError):
        await connect("example.org", 1)
