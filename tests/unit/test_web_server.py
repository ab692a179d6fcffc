"""The sockets of HTTPS servers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from services.runtime.listening import listen
from services.web import peer_certificate
from services.web.server import NodeServer

WITHIN_S = 30.0
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.mark.parametrize("host", ["::", "[::]"])
def test_every_address_is_open_to_both_kinds(host: str) -> None:
    with listen(host, 0, command="swci", port_option="--web-port") as listening:
        for there in ("127.0.0.1", "::1"):
            socket.create_connection((there, listening.getsockname()[1]), WITHIN_S).close()


def test_answers_are_not_held_back_for_an_acknowledgment() -> None:
    with (
        listen("127.0.0.1", 0, command="swci", port_option="--web-port") as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# --- callers that keep a server waiting, or come in numbers ------------------------------------------------------


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    """Takes the whole body first."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@contextlib.asynccontextmanager
async def serving(pki: Any, connections: int = 100) -> AsyncIterator[Callable[[], Awaitable[Connection]]]:
    stop, started = asyncio.Event(), asyncio.Event()
    context = pki.identity("license", "license-1").server_context()
    client = pki.identity("sn", "sn-1").client_context()
    with listen("127.0.0.1", 0, command="swci", port_option="--web-port") as listening:
        server = NodeServer(_hello, context, stop, started.set, keep_alive_s=40, connections=connections)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await started.wait()

        async def connect() -> Connection:
            port = listening.getsockname()[1]
            return await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")

        try:
            yield connect
        finally:
            stop.set()
            await serving


async def _is_cut_off(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(WITHIN_S):
        with contextlib.suppress(ConnectionError):
            return not await reader.read(1)
    return True


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf",
    ],
)
async def test_a_request_that_does_not_come_to_its_end_is_cut_off(
    pki: Any, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_certificate, "HEAD_WITHIN_S", 0.1)
    monkeypatch.setattr(peer_certificate, "PIECE_WITHIN_S", 0.1)
    async with serving(pki) as connect:
        reader, writer = await connect()
        writer.write(said)
        assert await _is_cut_off(reader)
        writer.transport.abort()


async def test_a_body_that_comes_bit_by_bit_for_ever_is_cut_off(pki: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_certificate, "BODY_WITHIN_S", 0.2)
    async with serving(pki) as connect:
        reader, writer = await connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n")
        cut_off = asyncio.create_task(_is_cut_off(reader))
        while not cut_off.done():
            writer.write(b"x")
            await asyncio.wait([cut_off], timeout=0.01)
        assert await cut_off
        writer.transport.abort()


async def test_a_second_request_that_comes_half_is_cut_off_too(pki: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(pki) as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(WITHIN_S):
            assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(peer_certificate, "HEAD_WITHIN_S", 0.1)
        writer.write(b"GET / HTTP/1.1\r\n")
        assert await _is_cut_off(reader)
        writer.transport.abort()


async def test_more_connections_than_there_may_be_are_told_to_come_back(pki: Any) -> None:
    async with serving(pki, connections=3) as connect:
        held = [await connect() for _ in range(3)]
        reader, writer = held[-1]
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(WITHIN_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 503")
        for _, writer in held:
            writer.transport.abort()
