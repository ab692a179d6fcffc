"""File server and peers over real mutual TLS: who may read, ranges, paths, and wrong bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from answering_peer import answering
from open_readers import everything
from stored_streams import member, put, serving

from services.errors import (
    DigestMismatch,
    DiskFull,
    NotTheLeader,
    PeerUnreachable,
    PortInUse,
    ResultUnavailable,
    StreamDamaged,
)
from services.identity.identity import PeerIdentity
from services.identity.signing import Signer
from services.rpc.result_copy import CopyClaim
from services.rpc.swarm_pb2 import ResultCopy, RoundState
from services.sl.transfer import waiting as waiting_module
from services.sl.transfer.file_server import FileServer, bind
from services.sl.transfer.peers import Peers
from services.sl.transfer.replication import ResultReplicator, UnpublishedResult
from services.sl.transfer.store import Store
from services.sl.transfer.waiting import ResultWait
from services.sl.view import CheckInEntry, Config, TrainingMember, View
from swarm_callback.digest import SEGMENT_BYTES


@contextlib.asynccontextmanager
async def http(pki: Any, role: str = "sl", name: str = "sl-2") -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=pki.identity(role, name).client_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "server")


@pytest.fixture
def mine(tmp_path: Path) -> Store:
    return Store(tmp_path / "client")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_module, "WAITS_S", (0.01, 0.01))


# --- who may read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "name", "status"),
    [("sl", "sl-2", 200), ("sl", "sl-3", 403), ("sn", "sl-2", 403), ("admin", "sl-2", 403), ("swop", "sl-2", 403)],
)
async def test_only_enrolled_sls_may_read(pki: Any, store: Store, role: str, name: str, status: int) -> None:
    stored = put(store, 4)
    async with serving(pki, store, lambda peer: peer.name == "sl-2") as port, http(pki, role, name) as client:
        for path in ("", "/segments"):
            async with client.get(f"https://localhost:{port}/v1/models/{stored.model.digest}{path}") as response:
                assert response.status == status


async def test_the_same_name_under_another_key_may_not_read(pki: Any, store: Store) -> None:
    stored = put(store, 4)
    enrolled = pki.identity("sl", "sl-2").fingerprint
    other = pki.issue("sl", "sl-2")
    async with serving(pki, store, lambda peer: peer.fingerprint == enrolled) as port:
        context = pki.identity("sl", "sl-9").client_context()
        context.load_cert_chain(other.cert, other.key)
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as client,
            client.get(f"https://localhost:{port}/v1/models/{stored.model.digest}") as response,
        ):
            assert response.status == 403


async def test_without_a_certificate_of_a_trusted_authority_nobody_gets_in(
    pki: Any, foreign_pki: Any, store: Store
) -> None:
    stored = put(store, 4)
    foreigner = foreign_pki.issue("sl", "sl-2")
    async with serving(pki, store) as port:
        for files in (None, foreigner):
            context = pki.identity("sl", "sl-9").client_context() if files else None
            if files:
                context.load_cert_chain(files.cert, files.key)
            connector = aiohttp.TCPConnector(ssl=context or _trusting(pki))
            async with aiohttp.ClientSession(connector=connector) as client:
                with pytest.raises(aiohttp.ClientError):
                    await client.get(f"https://localhost:{port}/v1/models/{stored.model.digest}")


def _trusting(pki: Any) -> Any:
    import ssl

    return ssl.create_default_context(cafile=pki.cacert)


# --- paths and ranges ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "A" * 64, "0" * 63, "0" * 65, "0" * 64, "", "0" * 64 + ".json"]
)
async def test_nothing_but_a_known_digest_is_found(pki: Any, store: Store, path: str) -> None:
    from yarl import URL

    put(store, 4)
    async with serving(pki, store) as port, http(pki) as client:
        url = URL(f"https://localhost:{port}/v1/models/{path}", encoded=True)
        async with client.get(url) as response:
            assert response.status == 404


async def test_what_is_no_http_is_refused_in_one_line_of_the_log(
    pki: Any, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    context = pki.identity("sl", "sl-1").client_context()
    async with serving(pki, store) as port:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
    [said] = caplog.records
    assert (said.levelname, said.exc_info) == ("WARNING", None)
    assert said.getMessage().startswith("Error handling request from 127.0.0.1: ")


@pytest.mark.parametrize("elements", [100, 600_000])
@pytest.mark.parametrize(
    ("asked", "part"), [("10-19", slice(10, 20)), ("50-", slice(50, None)), ("-7", slice(-7, None))]
)
async def test_ranges_are_served_exactly(pki: Any, store: Store, elements: int, asked: str, part: slice) -> None:
    stored = put(store, elements)
    content = stored.path.read_bytes()
    async with serving(pki, store) as port, http(pki) as client:
        url = f"https://localhost:{port}/v1/models/{stored.model.digest}"
        async with client.get(url, headers={"Range": f"bytes={asked}"}) as response:
            assert response.status == 206
            assert await response.read() == content[part]
            first, after, _ = part.indices(len(content))
            assert response.headers["Content-Range"] == f"bytes {first}-{after - 1}/{len(content)}"


@pytest.mark.parametrize("asked", ["bytes=1000000-", "bytes=5-2", "lines=1-2", "bytes=0-1,4-5"])
async def test_a_range_that_cannot_be_served_is_refused(pki: Any, store: Store, asked: str) -> None:
    stored = put(store, 4)
    async with serving(pki, store) as port, http(pki) as client:
        url = f"https://localhost:{port}/v1/models/{stored.model.digest}"
        async with client.get(url, headers={"Range": asked}) as response:
            assert response.status == 416


async def test_it_only_reads(pki: Any, store: Store) -> None:
    stored = put(store, 4)
    async with serving(pki, store) as port, http(pki) as client:
        for method in ("PUT", "POST", "DELETE"):
            async with client.request(method, f"https://localhost:{port}/v1/models/{stored.model.digest}") as response:
                assert response.status == 405


async def test_a_port_in_use_is_named() -> None:
    with bind("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(PortInUse, match=f"Port {port} on 127.0.0.1 is in use"):
            bind("127.0.0.1", port)


# --- fetching -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elements", [10, SEGMENT_BYTES // 4 - 20, 8 * SEGMENT_BYTES // 4 + 17])
async def test_a_stream_arrives_as_it_is(pki: Any, store: Store, mine: Store, elements: int) -> None:
    stored = put(store, elements)
    moved: list[int] = []
    async with serving(pki, store) as port, Peers(pki.identity("sl", "sl-2"), mine) as peers:
        got = await peers.fetch(
            stored.model.digest, stored.model.size, lambda: [member("sl-1", port)], moved=moved.append
        )
    assert got.model == stored.model
    assert got.path.read_bytes() == stored.path.read_bytes()
    assert stored.model.size - stored.header_size <= sum(moved) <= stored.model.size


async def test_what_is_here_is_not_fetched(pki: Any, mine: Store) -> None:
    stored = put(mine, 4)
    async with Peers(pki.identity("sl", "sl-2"), mine) as peers:
        assert await peers.fetch(stored.model.digest, stored.model.size, lambda: []) == stored


@pytest.mark.parametrize("elements", [1000, 8 * SEGMENT_BYTES // 4])
async def test_bytes_that_differ_from_the_digest_are_refused_and_another_holder_serves(
    pki: Any, tmp_path: Path, store: Store, mine: Store, elements: int
) -> None:
    good, liar = put(store, elements), Store(tmp_path / "liar")
    tampered = put(liar, elements)
    with tampered.path.open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"\x01")
    digest, size = good.model.digest, good.model.size
    async with (
        serving(pki, liar) as lying,
        serving(pki, store, name="sl-3") as honest,
        Peers(pki.identity("sl", "sl-2"), mine) as peers,
    ):
        with pytest.raises(DigestMismatch, match="What sl-1 served is not what the chain records"):
            await peers.fetch(digest, size, lambda: [member("sl-1", lying)])
        assert mine.get(digest) is None
        got = await peers.fetch(digest, size, lambda: [member("sl-1", lying), member("sl-3", honest)])
        assert got.model == good.model


async def test_another_size_than_the_chain_records_is_refused(pki: Any, store: Store, mine: Store) -> None:
    stored = put(store, 100)
    async with serving(pki, store) as port, Peers(pki.identity("sl", "sl-2"), mine) as peers:
        for size in (stored.model.size - 1, stored.model.size + 1):
            with pytest.raises(DigestMismatch):
                await peers.fetch(stored.model.digest, size, lambda: [member("sl-1", port)])
    assert list(mine.root.iterdir()) == []


async def test_a_size_beyond_the_disk_is_refused_before_anything_is_fetched(pki: Any, mine: Store) -> None:
    async with Peers(pki.identity("sl", "sl-2"), mine) as peers:
        with pytest.raises(DiskFull):
            await peers.fetch("0" * 64, 2**60, lambda: [member("sl-1", 1)])


async def test_a_holder_that_breaks_off_is_continued_at_the_next(pki: Any, store: Store, mine: Store) -> None:
    stored = put(store, 64 * SEGMENT_BYTES // 4)
    content = stored.path.read_bytes()
    ranges: list[str] = []

    async def half(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("segments"):
            return web.json_response(stored.manifest.described())
        asked = content[request.http_range]
        response = web.StreamResponse(status=206)
        response.content_length = len(asked)
        await response.prepare(request)
        await response.write(asked[: len(asked) // 2] if len(asked) > SEGMENT_BYTES else asked)  # the whole header
        assert request.transport is not None
        request.transport.close()
        return response

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        ranges.append(request.headers.get("Range", ""))
        answer: web.StreamResponse = await handler(request)
        return answer

    server = FileServer(pki.identity("sl", "sl-3"), store, everything())
    server._runner.app.middlewares.insert(0, note)  # type: ignore[attr-defined]
    with bind("127.0.0.1", 0) as good:
        await server.start(good)
        async with answering(pki, half) as breaking, Peers(pki.identity("sl", "sl-2"), mine) as peers:
            holders = [breaking, member("sl-3", good.getsockname()[1])]
            got = await peers.fetch(stored.model.digest, stored.model.size, lambda: holders)
        await server.stop()
    assert got.path.read_bytes() == content
    spans = [entry.removeprefix("bytes=").split("-") for entry in ranges if entry]
    assert sum(int(last) + 1 - int(first) for first, last in spans) < len(content)


async def test_nobody_who_holds_it_is_said_with_who_was_tried(pki: Any, mine: Store, hurried: None) -> None:
    with bind("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
    async with Peers(pki.identity("sl", "sl-2"), mine) as peers:
        with pytest.raises(PeerUnreachable, match=f"sl-1 at localhost:{port} cannot be reached"):
            await peers.fetch("0" * 64, 100, lambda: [member("sl-1", port)])
        with pytest.raises(ResultUnavailable, match=r"the result of round 3 could serve it \(sl-1; the last error"):
            await peers.fetch_result(3, "0" * 64, 100, lambda: [member("sl-1", port)], ResultWait(1.0))


async def test_a_result_that_appears_after_a_while_is_fetched(pki: Any, store: Store, mine: Store) -> None:
    expected = Store(mine.root.parent / "elsewhere")
    model = put(expected, 5).model
    async with serving(pki, store) as port, Peers(pki.identity("sl", "sl-2"), mine) as peers:
        fetching = asyncio.create_task(
            peers.fetch_result(1, model.digest, model.size, lambda: [member("sl-1", port)], ResultWait(1.0))
        )
        put(store, 5)
        assert (await fetching).model == model


async def test_a_header_is_read_without_its_body(pki: Any, store: Store, mine: Store) -> None:
    stored = put(store, 10)
    async with serving(pki, store) as port, Peers(pki.identity("sl", "sl-2"), mine) as peers:
        specs = await peers.fetch_specs(stored.model.digest, stored.model.size, member("sl-1", port))
        assert specs == stored.specs()
        with pytest.raises(StreamDamaged):
            await peers.fetch_specs(stored.model.digest, stored.model.size + 1, member("sl-1", port))
    assert list(mine.root.iterdir()) == []


# --- copies ----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def two_holders(
    pki: Any, store: Store, mine: Store, signs_as: str = "sl-2"
) -> AsyncIterator[tuple[Peers, TrainingMember]]:
    """sl-1 has a result and a file server; sl-2 copies from it, and has a file server too."""
    async with serving(pki, store) as port, Peers(pki.identity("sl", "sl-2"), mine) as fetching:

        async def take_copy(peer: PeerIdentity, digest: str, moved: Callable[[int], None]) -> ResultCopy:
            if peer.name != "sl-1":
                raise NotTheLeader(name=peer.name, term=1, round=2, leader="sl-1")
            await fetching.fetch(digest, store.get(digest).model.size, lambda: [member("sl-1", port)], moved=moved)
            return CopyClaim("", 0, 1, digest, "sl-2").signed(signer)

        signer = Signer(pki.identity("sl", signs_as))
        server = FileServer(pki.identity("sl", "sl-2"), mine, everything(), take_copy=take_copy)
        with bind("127.0.0.1", 0) as bound:
            await server.start(bound)
            async with Peers(pki.identity("sl", "sl-1"), store) as offering:
                key = pki.identity("sl", "sl-2").fingerprint
                yield offering, replace(member("sl-2", bound.getsockname()[1]), fingerprint=key)
            await server.stop()


async def test_a_copy_is_taken_before_the_offer_returns(pki: Any, store: Store, mine: Store) -> None:
    stored = put(store, 3_000_000, 0.5)
    async with two_holders(pki, store, mine) as (offering, other):
        await offering.give_copy(other, stored.model.digest, lambda: None)
        assert mine.get(stored.model.digest).path.read_bytes() == stored.path.read_bytes()


async def test_an_offer_that_is_refused_says_why(pki: Any, store: Store, mine: Store) -> None:
    stored = put(store, 4)
    async with two_holders(pki, store, mine) as (_, other), Peers(pki.identity("sl", "sl-9"), store) as stranger:
        with pytest.raises(PeerUnreachable, match="sl-9 does not lead term 1 of round 2; sl-1 does"):
            await stranger.give_copy(other, stored.model.digest, lambda: None)
        assert mine.get(stored.model.digest) is None


async def test_what_is_offered_and_not_there_is_no_copy(pki: Any, store: Store, mine: Store) -> None:
    stored = put(store, 4)
    async with two_holders(pki, store, mine) as (offering, other):
        stored.path.unlink()
        with pytest.raises(PeerUnreachable, match="no longer here"):
            await offering.give_copy(other, stored.model.digest, lambda: None)


async def test_a_silent_node_is_not_the_only_one_asked_for_a_copy(pki: Any, store: Store, mine: Store) -> None:
    stored = put(store, 4)
    with bind("127.0.0.1", 0) as silent:  # accepts connections, but never answers
        async with two_holders(pki, store, mine) as (offering, other):
            view = merging_view(member("silent", silent.getsockname()[1]), other)
            copy = await replicator(pki, offering, view).replicate(UnpublishedResult(stored.model, view))
            assert copy is not None and copy.holder == "sl-2"
            assert mine.get(stored.model.digest) is not None


async def test_nobody_is_asked_for_a_copy_where_nobody_is_left(pki: Any, store: Store) -> None:
    stored = put(store, 4)
    gone = TrainingMember("sl-2", "localhost", 1, "", active=False)
    async with Peers(pki.identity("sl", "sl-1"), store) as offering:
        view = merging_view(gone)
        assert await replicator(pki, offering, view).replicate(UnpublishedResult(stored.model, view)) is None


async def test_a_copy_that_is_signed_with_another_key_is_none(pki: Any, store: Store, mine: Store) -> None:
    stored = put(store, 4)
    async with two_holders(pki, store, mine, signs_as="sl-9") as (offering, other):
        view = merging_view(other)
        newest = [view, view, view, replace(view, term=2)]  # after the request, the term is over
        copies = ResultReplicator(
            offering, lambda _: None, lambda: newest.pop(0), lambda: pki.identity("sl", "sl-1").trust
        )
        assert await copies.replicate(UnpublishedResult(stored.model, view)) is None
    assert mine.get(stored.model.digest) is not None and not newest


def replicator(pki: Any, peers: Peers, view: View) -> ResultReplicator:
    return ResultReplicator(peers, lambda _: None, lambda: view, lambda: pki.identity("sl", "sl-1").trust)


def merging_view(*others: TrainingMember) -> View:
    entries = tuple(CheckInEntry(other.name, "", 1, 1, False) for other in others)
    return View(
        phase=RoundState.MERGE, round=0, term=1, leader="sl-1", config=Config(2, 1, "mean"), layout="", layout_by="",
        members=others, check_ins=entries, last=None, awaited=(), left_out=(), version=1, block=1,
    )  # fmt: skip
