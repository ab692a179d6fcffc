"""Bulk transfer beside the event loop: data already here is not fetched again after a restart; misuse is cut off."""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from mapped_ports import mapped_port
from stored_streams import member, put, serving

from services.errors import DigestMismatch, PeerUnreachable
from services.sl.transfer import bulk as bulk_module
from services.sl.transfer.bulk import CONNECTIONS_PER_PEER
from services.sl.transfer.connections import BULK
from services.sl.transfer.packing import FRAME, Packer
from services.sl.transfer.partials import Partial
from services.sl.transfer.peers import Peers
from services.sl.transfer.pulling import Pull, Source
from services.sl.transfer.store import Store, Stored
from tests.pacing import pause

WITHIN_S = 30.0


def connect(pki: Any, port: int) -> ssl.SSLSocket:
    context = pki.identity("sl", "sl-2").client_context()
    context.set_alpn_protocols([BULK])
    plain = socket.create_connection(("localhost", port), WITHIN_S)
    secured: ssl.SSLSocket = context.wrap_socket(plain, server_hostname="localhost")
    return secured


def answer(connection: ssl.SSLSocket, request: str) -> str:
    """The head of the answer; empty if the connection was closed."""
    connection.sendall(request.encode())
    try:
        return connection.recv(4096).decode("latin-1")
    except OSError:
        return ""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "server")


async def test_segments_that_a_restart_left_are_not_fetched_again(pki: Any, tmp_path: Path, store: Store) -> None:
    stored, mine = put(store, 2_000_000), Store(tmp_path / "client")
    half = mine.begin(stored.manifest, stored.header())
    content = stored.path.read_bytes()
    for index in range(half.count // 2):
        start = half.start_of(index)
        half.put(index, memoryview(content)[start : start + half.size_of(index)])
    half.end()
    again = Store(mine.root)
    moved: list[int] = []
    async with serving(pki, store) as port, Peers(pki.identity("sl", "sl-2"), again) as peers:
        got = await peers.fetch(
            stored.model.digest, stored.model.size, lambda: [member("sl-1", port)], moved=moved.append
        )
    assert got.path.read_bytes() == content
    assert 0 < sum(moved) <= len(content) * 0.55


async def test_packed_bytes_are_fewer_and_come_out_as_they_went_in(pki: Any, tmp_path: Path, store: Store) -> None:
    stored, moved = put(store, 2_000_000), [0]
    async with serving(pki, store) as port, Peers(pki.identity("sl", "sl-2"), Store(tmp_path / "c")) as peers:
        peers.transfers.packed = True
        got = await peers.fetch(
            stored.model.digest, stored.model.size, lambda: [member("sl-1", port)], moved=moved.append
        )
    assert got.path.read_bytes() == stored.path.read_bytes()
    assert sum(moved) < 0.9 * stored.model.size


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (FRAME.pack(2**32 - 1, 5, 4) + bytes(5), "frame that does not belong here"),
        (FRAME.pack(0, 5, 4) + bytes(5), "frame that does not belong here"),
        (FRAME.pack(100, 2**32 - 1, 4) + bytes(5), "frame that does not belong here"),
        (FRAME.pack(100, 5, 4) + bytes(5), "a plane that is damaged"),
    ],
)
async def test_frames_that_are_none_are_refused(
    pki: Any, store: Store, monkeypatch: pytest.MonkeyPatch, frame: bytes, error: str
) -> None:
    stored = put(store, 2_000_000)
    monkeypatch.setattr(Packer, "pack", lambda _packer, _data, _width: frame)
    client = Store(store.root.parent / "client")
    async with serving(pki, store) as port, Peers(pki.identity("sl", "sl-2"), client) as peers:
        peers.transfers.packed = True
        with pytest.raises(PeerUnreachable, match=error):
            await peers.fetch(stored.model.digest, stored.model.size, lambda: [member("sl-1", port)])


async def test_two_holders_send_different_parts_at_once(pki: Any, tmp_path: Path, store: Store) -> None:
    stored = put(store, 8_000_000)
    second = Store(tmp_path / "second")
    assert put(second, 8_000_000) == Stored(stored.model, second.root / stored.path.name, *_rest(stored))
    mine = Store(tmp_path / "client")
    async with (
        serving(pki, store) as first_port,
        serving(pki, second) as second_port,
        Peers(pki.identity("sl", "sl-2"), mine) as peers,
    ):
        holders = [member("sl-1", first_port), member("sl-3", second_port)]
        moved: list[int] = []
        got = await peers.fetch(stored.model.digest, stored.model.size, lambda: holders, moved=moved.append)
        assert got.model == stored.model
        assert sum(moved) <= stored.model.size


def _rest(stored: Stored) -> tuple[int, tuple[bytes, ...]]:
    return stored.header_size, stored.segments


def test_only_what_is_needed_stays_also_after_a_restart(tmp_path: Path, store: Store) -> None:
    stored, other = put(store, 500_000), put(store, 600_000)
    mine = Store(tmp_path / "client")
    kept, gone = (mine.begin(entry.manifest, entry.header()) for entry in (stored, other))
    draft = mine.draft("1-1-1", stored.model.size, stored.header(), kept.count)
    for partial in (kept, gone, draft):
        partial.end()
    again = Store(mine.root)
    assert {path.suffix for path in again.root.iterdir()} == {".part", ".parts"}
    again.keep_only(frozenset({stored.model.digest}))
    assert {path.stem for path in again.root.iterdir()} == {stored.model.digest}


@pytest.mark.parametrize("elements", [256, 2_000_000])
async def test_a_connection_that_a_firewall_has_forgotten_costs_a_new_one_and_no_stall(
    pki: Any, tmp_path: Path, store: Store, elements: int
) -> None:
    first, second = put(store, elements), put(store, elements + 1)
    async with asyncio.timeout(WITHIN_S), serving(pki, store) as port, mapped_port() as firewall:
        firewall.target = port
        async with Peers(pki.identity("sl", "sl-2"), Store(tmp_path / "c"), stall_s=10 * WITHIN_S) as peers:
            for stored in (first, second):
                made = firewall.connections
                await peers.fetch(stored.model.digest, stored.model.size, lambda: [member("sl-1", firewall.port)])
                assert firewall.connections > made
                firewall.forget()


async def test_a_connection_that_was_forgotten_is_made_anew_also_for_what_is_not_made_yet(
    pki: Any, tmp_path: Path, store: Store
) -> None:
    stored = put(store, 2_000_000)
    content, header, count = stored.path.read_bytes(), stored.header(), len(stored.segments)
    made = store.draft("1-1-1", stored.model.size, header, count)

    def make(index: int) -> None:
        start = made.start_of(index)
        made.put(index, memoryview(content)[start : start + made.size_of(index)])
        store.draft_grew.notify()

    mine = Store(tmp_path / "c")
    partial = mine.draft("1-1-1", stored.model.size, header, count)
    async with (
        asyncio.timeout(WITHIN_S),
        serving(pki, store) as port,
        mapped_port() as firewall,
        Peers(pki.identity("sl", "sl-2"), mine, stall_s=10 * WITHIN_S) as peers,
    ):
        firewall.target = port
        pull = Pull(partial, mine, peers.transfers, lambda _: None, apart=True)
        merger = Source(member("sl-1", firewall.port), "/v1/merges/1-1-1", made=False)
        make(0)
        pull.offer(merger, [0])
        await pull.until([0])
        firewall.forget()
        before = firewall.connections
        make(1)
        pull.offer(merger, [1])
        await pull.until([1])
        assert firewall.connections > before
        await pull.close()


async def test_a_peer_that_trickles_single_bytes_is_given_up(pki: Any, tmp_path: Path, store: Store) -> None:
    stored = put(store, 2_000_000)
    context = pki.identity("sl", "sl-1").server_context()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        first, last = request.partition(b"bytes=")[2].partition(b"\r\n")[0].decode().split("-")
        length = int(last) + 1 - int(first)
        writer.write(f"HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await pause(0.02)

    mine = Store(tmp_path / "client")
    partial: Partial = mine.begin(stored.manifest, stored.header())
    server = await asyncio.start_server(trickle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with Peers(pki.identity("sl", "sl-2"), mine, stall_s=0.3) as peers:
        sizes = [partial.size_of(0)]
        with pytest.raises(PeerUnreachable, match=r"it sent \d+ bytes in"):
            await peers.transfers.read(
                member("sl-1", port), "/x", (0, sizes), lambda _number, _data: None, lambda _: None
            )
    server.close()


async def test_a_peer_has_so_many_connections_and_no_more(pki: Any, store: Store) -> None:
    stored = put(store, 4)
    request = f"GET /v1/models/{stored.model.digest} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\n\r\n"
    async with serving(pki, store) as port:
        with contextlib.ExitStack() as stack:
            heads = []
            for _ in range(CONNECTIONS_PER_PEER + 1):
                connection = stack.enter_context(await asyncio.to_thread(connect, pki, port))
                heads.append(await asyncio.to_thread(answer, connection, request))
    assert [head.startswith("HTTP/1.1 206") for head in heads] == [True] * CONNECTIONS_PER_PEER + [False]


async def test_readers_that_gave_up_waiting_for_a_segment_do_not_count_any_more(pki: Any, store: Store) -> None:
    stored = put(store, 4)
    asks_in_vain = "GET /v1/merges/1-1-1 HTTP/1.1\r\nRange: bytes=0-3\r\n\r\n"
    asks = f"GET /v1/models/{stored.model.digest} HTTP/1.1\r\nRange: bytes=0-3\r\n\r\n"
    async with serving(pki, store) as port:
        for _ in range(CONNECTIONS_PER_PEER):
            with await asyncio.to_thread(connect, pki, port) as connection:
                connection.sendall(asks_in_vain.encode())
        async with asyncio.timeout(WITHIN_S):
            while True:
                with await asyncio.to_thread(connect, pki, port) as connection:
                    if (await asyncio.to_thread(answer, connection, asks)).startswith("HTTP/1.1 206"):
                        break
                await pause(0.05)


async def test_bytes_of_a_peer_that_lies_are_no_sign_that_anything_moves(
    pki: Any, tmp_path: Path, store: Store
) -> None:
    stored, moved = put(store, 1_000_000), [0]
    partial = Store(tmp_path / "client").begin(stored.manifest, stored.header())
    content = bytearray(stored.path.read_bytes())
    content[-1] ^= 1
    stored.path.write_bytes(content)
    async with serving(pki, store) as port, Peers(pki.identity("sl", "sl-2"), store) as peers:
        pull = Pull(partial, store, peers.transfers, moved.append)
        last = partial.count - 1
        for _ in range(3):
            pull.offer(Source(member("sl-1", port), f"/v1/models/{stored.model.digest}"), [last])
            with pytest.raises(DigestMismatch):
                await pull.until([last])
        await pull.close()
    assert sum(moved) == partial.size_of(last)  # once, before it was found out


async def test_a_request_that_does_not_end_is_cut_off(pki: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "REQUEST_S", 0.2)
    async with serving(pki, store) as port:
        with await asyncio.to_thread(connect, pki, port) as connection:
            assert await asyncio.to_thread(answer, connection, "GET /v1/models/") == ""


async def test_who_says_nothing_at_all_keeps_nobody_else_out(pki: Any, store: Store) -> None:
    stored = put(store, 4)
    request = f"GET /v1/models/{stored.model.digest} HTTP/1.1\r\nRange: bytes=0-3\r\n\r\n"
    async with serving(pki, store) as port:
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection = stack.enter_context(await asyncio.to_thread(connect, pki, port))
            assert (await asyncio.to_thread(answer, connection, request)).startswith("HTTP/1.1 206")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /v1/models/{digest} HTTP/1.1\r\nRange: bytes=0-999999", 416),
        ("GET /v1/models/{digest} HTTP/1.1\r\nRange: bytes=9-3", 416),
        ("GET /v1/models/{digest} HTTP/1.1\r\nHost: x", 404),
        ("GET /v1/models/{missing} HTTP/1.1\r\nRange: bytes=0-3", 404),
        ("GET /v1/models/../../etc/passwd HTTP/1.1\r\nRange: bytes=0-3", 404),
        ("PUT /v1/models/{digest} HTTP/1.1\r\nRange: bytes=0-3", 404),
    ],
)
async def test_what_is_not_a_range_of_a_stream_is_refused(
    pki: Any, store: Store, request_line: str, status: int
) -> None:
    stored = put(store, 4)
    request = request_line.format(digest=stored.model.digest, missing="0" * 64) + "\r\n\r\n"
    async with serving(pki, store) as port:
        with await asyncio.to_thread(connect, pki, port) as connection:
            assert (await asyncio.to_thread(answer, connection, request)).startswith(f"HTTP/1.1 {status} ")
