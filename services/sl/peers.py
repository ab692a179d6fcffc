"""Fetches parameter streams from the file servers of other participants, over connections that stay open.

Nothing is trusted: the size comes from the chain and is allotted before the first byte, the header and every
segment are checked against the digest as they arrive.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

import aiohttp

from services.errors import DigestMismatch, NetworkError, PeerUnreachable, ResultUnavailable, StreamDamaged
from services.identity.identity import Identity
from services.sl.store import Incoming, Store, Stored
from services.sl.view import Member
from swarm_callback.digest import LENGTH_BYTES, SEGMENT_BYTES, combine
from swarm_callback.errors import StreamError
from swarm_callback.params import TensorSpec, header_size_of, parse_header

CONNECT_S = 10.0
# A TCP connection that is to come back at all has brought something by then, also after it lost packets in a row.
STALL_S = 20.0
ANSWER_S = 5.0  # to a question that takes nothing to answer
KEEP_ALIVE_S = 3600.0
BATCH_BYTES = 1024 * 1024  # written and hashed at once, beside the network

# Between attempts at all holders of a result, the last again and again.
WAITS_S = (0.2, 0.5, 1.0, 2.0, 4.0)

# A segment's hash in JSON, and what stands around all of them.
_HASH_CHARACTERS = 72
_FRAME_CHARACTERS = 1024

# The answer to a node that offers a copy: a sign while the copy is on its way, and how it went.
COPY_MOVES = b"."
COPY_TAKEN = b"\ntaken"
COPY_ANSWER_BYTES = 400

Moved = Callable[[int], None]

# Asked anew at each attempt: a node may have come back at another address.
Holders = Callable[[], Sequence[Member]]


@dataclass(frozen=True)
class Progress:
    """Of a merge, as its leader tells it: ``idle_s`` since anything moved."""

    round: int
    term: int
    idle_s: float


@dataclass(frozen=True)
class Waiting:
    """For a result: ``patience_s``, or until it is ``overtaken``. ``failed(attempt)``, from 0, before each wait."""

    patience_s: float
    overtaken: Callable[[], bool] = lambda: False
    failed: Callable[[int], object] = lambda _: None

    def waits_s(self) -> Iterator[float]:
        give_up = monotonic() + self.patience_s
        for attempt in itertools.count():
            self.failed(attempt)
            left = give_up - monotonic()
            if left <= 0 or self.overtaken():
                return
            yield min(WAITS_S[min(attempt, len(WAITS_S) - 1)], left)


class Peers:
    """``pause(seconds)`` waits. ``stall_s``: without a byte, after which a peer is given up; a slow link is not silent.

    ``received`` gets the bytes of each piece.
    """

    def __init__(  # what it works with
        self,
        identity: Identity,
        store: Store,
        pause: Callable[[float], Awaitable[object]],
        received: Moved = lambda _: None,
        stall_s: float = STALL_S,
    ) -> None:
        self.stall_s = stall_s
        self._received = received
        self._identity = identity
        self._store = store
        self._pause = pause
        self._session: aiohttp.ClientSession
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._identity.client_context(), keepalive_timeout=KEEP_ALIVE_S)
        connect_s = min(CONNECT_S, self.stall_s)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=self.stall_s)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def fetch(
        self,
        digest: str,
        size: int,
        holders: Holders,
        *,
        waits_s: Iterable[float] = (),
        moved: Moved = lambda _: None,
    ) -> Stored:
        """The stream, in the store; from the first holder that has it, going on at the next where one breaks off.

        ``moved`` gets the number of bytes of each piece. ``waits_s``: between attempts at all holders. Raises the
        error of the last one asked: PeerUnreachable, DigestMismatch, StreamDamaged; DiskFull, StorageError at once.
        """
        lock = self._locks.setdefault(digest, asyncio.Lock())
        async with lock:  # one transfer of the same stream at a time
            return self._store.get(digest) or await self._fetch(digest, size, holders, iter(waits_s), moved)

    async def _fetch(self, digest: str, size: int, holders: Holders, waits_s: Iterator[float], moved: Moved) -> Stored:
        failure: Exception = PeerUnreachable(peer="Nobody", address="?", problem="nobody is known to hold it")
        incoming: Incoming | None = None
        try:
            while True:
                for holder in holders():
                    incoming = incoming or self._store.incoming(holder.name, size)
                    try:
                        return await self._fetch_from(holder, digest, size, incoming, moved)
                    except PeerUnreachable as error:
                        failure = error  # what came so far is good, the next one goes on from there
                    except (DigestMismatch, StreamDamaged) as error:
                        failure = error
                        incoming.discard()
                        incoming = None
                wait_s = next(waits_s, None)
                if wait_s is None:
                    raise failure
                await self._pause(wait_s)
        finally:
            if incoming is not None:
                incoming.discard()

    async def fetch_result(
        self, round_number: int, digest: str, size: int, holders: Holders, waiting: Waiting
    ) -> Stored:
        """The same for a merged model, patiently: a holder may be about to get it. Raises ResultUnavailable."""
        try:
            return await self.fetch(digest, size, holders, waits_s=waiting.waits_s())
        except (NetworkError, DigestMismatch, StreamDamaged) as error:
            tried = ", ".join(holder.name for holder in holders()) or "nobody is known to hold it"
            raise ResultUnavailable(round=round_number, tried=f"{tried}; the last error: {error}") from None

    async def fetch_specs(self, digest: str, size: int, holder: Member) -> list[TensorSpec]:
        """The tensors of a stream that is not fetched itself. Raises PeerUnreachable, StreamDamaged."""
        start = await self._read_range(holder, digest, 0, LENGTH_BYTES)
        try:
            header_size = header_size_of(start, size)
            header = start + await self._read_range(holder, digest, LENGTH_BYTES, header_size)
            return parse_header(header, size)
        except StreamError as error:
            raise StreamDamaged(node=holder.name, problem=error.facts["problem"]) from None

    async def ask_progress(self, leader: Member) -> Progress:
        """Raises PeerUnreachable, also where it does not answer soon or leads nothing."""
        problem = f"it did not say within {ANSWER_S:g} s how far it is"
        try:
            async with asyncio.timeout(ANSWER_S), self._get(leader, "/v1/progress") as response:
                said = json.loads(await _read_at_most(response, _FRAME_CHARACTERS))
            return Progress(int(said["round"]), int(said["term"]), float(said["idle_s"]))
        except TimeoutError:
            pass
        except (ValueError, KeyError, TypeError):
            problem = "it answered something unreadable"
        raise PeerUnreachable(peer=leader.name, address=_address(leader), problem=problem)

    async def give_copy(self, holder: Member, digest: str, alive: Callable[[], object]) -> None:
        """Has ``holder`` fetch a stream from here; returns when it has stored it. ``alive`` at each sign that it moves.

        Raises PeerUnreachable with the reason.
        """
        async with self._request("PUT", holder, f"/v1/models/{digest}") as response:
            said = b""
            async for piece in response.content.iter_any():
                if not piece.strip(COPY_MOVES):
                    alive()
                said = (said + piece)[-COPY_ANSWER_BYTES:]
        if not said.endswith(COPY_TAKEN):
            problem = said.strip(COPY_MOVES + b"\n").decode("utf-8", "replace") or "it broke off"
            raise PeerUnreachable(peer=holder.name, address=_address(holder), problem=problem)

    async def _fetch_from(self, holder: Member, digest: str, size: int, incoming: Incoming, moved: Moved) -> Stored:
        expected = None
        if size > SEGMENT_BYTES:
            expected = await self._segments(holder, digest, size)
        offset = incoming.taken.size
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._get(holder, f"/v1/models/{digest}", headers) as response:
            if response.content_length != size - offset:
                raise DigestMismatch(node=holder.name, found=f"{response.content_length} bytes", expected=size - offset)
            async for batch in _batches(response, moved):
                if expected is None:
                    incoming.write(batch)
                else:
                    await asyncio.to_thread(incoming.write, batch)
                    _check(holder, incoming, expected)
                self._received(len(batch))
        if incoming.taken.size < size:
            raise PeerUnreachable(peer=holder.name, address=_address(holder), problem="it broke off")
        found = incoming.taken.digest().hex()
        if found != digest:
            raise DigestMismatch(node=holder.name, found=found, expected=digest)
        return incoming.commit()

    async def _segments(self, holder: Member, digest: str, size: int) -> tuple[bytes, list[bytes]]:
        """The hashes that the digest is made of: layout and segments. Raises DigestMismatch."""
        limit = (size // SEGMENT_BYTES + 1) * _HASH_CHARACTERS + _FRAME_CHARACTERS
        async with self._get(holder, f"/v1/models/{digest}/segments") as response:
            text = await _read_at_most(response, limit)
        try:
            answer = json.loads(text)
            layout = bytes.fromhex(answer["layout"])
            segments = [bytes.fromhex(segment) for segment in answer["segments"]]
            found = combine(layout, segments).hex()
        except (ValueError, KeyError, TypeError):
            found = "something unreadable"
        if found != digest:
            raise DigestMismatch(node=holder.name, found=found, expected=digest)
        return layout, segments

    async def _read_range(self, holder: Member, digest: str, start: int, stop: int) -> bytes:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        async with self._get(holder, f"/v1/models/{digest}", headers) as response:
            data = await _read_at_most(response, stop - start)
        if len(data) < stop - start:
            raise StreamDamaged(node=holder.name, problem="it is cut short")
        return data

    def _get(
        self, holder: Member, path: str, headers: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._request("GET", holder, path, headers)

    @asynccontextmanager
    async def _request(
        self, method: str, holder: Member, path: str, headers: dict[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        host = f"[{holder.host}]" if ":" in holder.host else holder.host
        try:
            async with self._session.request(
                method, f"https://{host}:{holder.port}{path}", headers=headers, allow_redirects=False
            ) as response:
                if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                    words = (await _read_at_most(response, 200)).decode("utf-8", "replace")
                    problem = f"it answered {response.status} ({words})"
                    raise PeerUnreachable(peer=holder.name, address=_address(holder), problem=problem)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = str(error) or type(error).__name__
            raise PeerUnreachable(peer=holder.name, address=_address(holder), problem=problem) from None


def _check(holder: Member, incoming: Incoming, expected: tuple[bytes, list[bytes]]) -> None:
    """Header and closed segments, as far as they are there. Raises DigestMismatch."""
    taken, (layout, segments) = incoming.taken, expected
    if taken.header_size and taken.size >= taken.header_size and taken.layout != layout:
        raise DigestMismatch(node=holder.name, found=taken.layout.hex(), expected=layout.hex())
    closed = max(0, taken.size - taken.header_size) // SEGMENT_BYTES
    if closed and taken.segments[closed - 1] != segments[closed - 1]:
        raise DigestMismatch(node=holder.name, found="another segment", expected="the one that the digest names")


async def _batches(response: aiohttp.ClientResponse, moved: Moved) -> AsyncIterator[bytes]:
    """The body in pieces of about BATCH_BYTES. A slow link takes a while for one: ``moved`` gets every byte at once."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        moved(len(piece))
        pieces.append(piece)
        size += len(piece)
        if size >= BATCH_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)


async def _read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, cut after ``limit`` bytes."""
    data = b""
    async for piece in response.content.iter_any():
        data += piece
        if len(data) >= limit:
            break
    return data[:limit]


def _address(holder: Member) -> str:
    return f"{holder.host}:{holder.port}"
