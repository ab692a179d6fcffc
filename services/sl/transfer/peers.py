"""Fetches parameter streams from other participants' file servers, over connections that stay open.

No peer is trusted: the size comes from the chain and is reserved before the first byte; the header and every segment
are checked against the digest as they arrive.
"""

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar
from weakref import WeakValueDictionary

import aiohttp
from google.protobuf.message import DecodeError

from services.errors import DigestMismatch, NetworkError, PeerUnreachable, ResultUnavailable, StreamDamaged, SwarmError
from services.identity.identity import Identity
from services.identity.peers import Expected
from services.rpc.result_copy import COPY_BYTES
from services.rpc.swarm_pb2 import ResultCopy
from services.runtime import logs
from services.runtime.probing import probe
from services.sl.round.progress import MergeProgress
from services.sl.sharding.messages import MESSAGE_BYTES
from services.sl.transfer.connections import BULK, LEAST_BYTES_PER_S, SUSPECT_AFTER_S, Transfers, expected_at
from services.sl.transfer.partials import Manifest, Partial, header_of
from services.sl.transfer.pulling import Pull, Source
from services.sl.transfer.store import Incoming, Store, Stored
from services.sl.transfer.waiting import Arriving, Moved, ResultWait
from services.sl.view import TrainingMember
from swarm_callback.digest import LENGTH_BYTES, SEGMENT_BYTES
from swarm_callback.errors import StreamError
from swarm_callback.params import TensorSpec, header_size_of, parse_header

CONNECT_S = 10.0
NAME_S = 10.0  # to look up a name
# A TCP connection that recovers at all has delivered something by then, even after it lost several packets in a row.
STALL_S = 20.0
ANSWER_S = 5.0  # for a question that takes no work to answer
KEEP_ALIVE_S = 3600.0

# Up to this size a stream is fetched in one request, and hashed as it arrives.
SMALL_BYTES = 1024 * 1024

# Holders asked for segments of the same stream at once; more would only share this node's link.
MOST_HOLDERS = 3

# Characters of one segment's hash in JSON, and of everything else in a manifest.
_HASH_CHARACTERS = 72
_FRAME_CHARACTERS = 1024

# The answer to a node that offers a copy: signs while the copy is being fetched, then the outcome.
COPY_MOVES = b"."
COPY_TAKEN = b"\ntaken "  # then the holder's signed statement, in base64
COPY_ANSWER_BYTES = 2 * COPY_BYTES

# Size of a refusal's text; also sent in a header, as a WebSocket client does not see the body.
WORDS_BYTES = 400
REFUSAL_HEADER = "Swarm-Refusal"

# UnicodeError: a name that no host can have.
_UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError, UnicodeError)

_log = logs.get("peers")

# Called again at each attempt: a node may have come back at another address.
Holders = Callable[[], Sequence[TrainingMember]]

Answered = TypeVar("Answered")


class Peers:
    """``stall_s``: seconds without a byte after which a peer is given up; a slow link is not silent.

    ``received`` gets the number of bytes of each piece.
    """

    def __init__(  # what it works with
        self,
        identity: Identity,
        store: Store,
        received: Moved = lambda _: None,
        stall_s: float = STALL_S,
    ) -> None:
        self.stall_s = stall_s
        self._received = received
        self._identity = identity
        self._store = store
        self._session: aiohttp.ClientSession
        self._anew: aiohttp.ClientSession  # keeps no connections
        self.transfers: Transfers
        self._contexts: dict[Expected, ssl.SSLContext] = {}  # one each: a connection is reused for its own member only
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __aenter__(self) -> Self:
        bulk = self._identity.client_context()
        bulk.set_alpn_protocols([BULK])
        self.transfers = Transfers(bulk, self.stall_s)
        # No limit: each participant is asked for one small stream or manifest at a time, and has one connection from a
        # leader, which stays open for a whole merge. With a limit, the last ones would wait for these.
        kept = aiohttp.TCPConnector(
            keepalive_timeout=KEEP_ALIVE_S, limit=0, limit_per_host=0, socket_factory=_probed_socket
        )
        closed = aiohttp.TCPConnector(force_close=True, limit=0, limit_per_host=0, socket_factory=_probed_socket)
        connect_s = min(CONNECT_S, self.stall_s)
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=NAME_S + connect_s,
            sock_connect=connect_s,
            sock_read=self.stall_s,
        )
        self._session, self._anew = (
            aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
            for connector in (kept, closed)
        )
        if self._identity.renewal is not None:
            self._identity.renewal.followers.add(self)
        return self

    def renewed(self) -> None:
        """Called when this node has a new certificate, perhaps a new key: old connections are not reused."""
        self._contexts.clear()
        self.transfers.renewed()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._identity.renewal is not None:
            self._identity.renewal.followers.discard(self)
        await self._session.close()
        await self._anew.close()
        self.transfers.close()

    async def fetch(
        self,
        digest: str,
        size: int,
        holders: Holders,
        *,
        waits_s: Iterable[float] = (),
        moved: Moved = lambda _: None,
        on_segment: Callable[[], object] = lambda: None,
    ) -> Stored:
        """Fetches a stream into the store, from the first holder that has it; if one breaks off, the next one
        continues.

        ``moved`` gets the number of bytes of each piece; ``on_segment`` is called for each correct segment.
        ``waits_s``: seconds between attempts at all holders. Raises the error of the last holder asked:
        PeerUnreachable, DigestMismatch, StreamDamaged; DiskFull, StorageError at once.
        """
        lock = self._locks.setdefault(digest, asyncio.Lock())
        async with lock:  # one transfer of the same stream at a time
            return self._store.get(digest) or await self._fetch(
                digest, size, holders, iter(waits_s), Arriving(moved, on_segment)
            )

    async def _fetch(
        self, digest: str, size: int, holders: Holders, waits_s: Iterator[float], arriving: Arriving
    ) -> Stored:
        failure: Exception = PeerUnreachable(peer="Nobody", address="?", problem="nobody is known to hold it")
        attempt = self._fetch_small if size <= SMALL_BYTES else self._fetch_segments
        while True:
            there = holders()
            if there:
                try:
                    return await attempt(there, digest, size, arriving)
                except (PeerUnreachable, DigestMismatch, StreamDamaged) as error:
                    failure = error
                except SwarmError:
                    raise
                except Exception as error:
                    _log.exception("a stream cannot be read", digest=digest[:16])
                    names = ", ".join(holder.name for holder in there)
                    problem = f"what it sent cannot be read ({type(error).__name__})"
                    failure = PeerUnreachable(peer=names, address=_address(there[0]), problem=problem)
            wait_s = next(waits_s, None)
            if wait_s is None:
                raise failure
            await asyncio.sleep(wait_s)

    async def _fetch_small(
        self, holders: Sequence[TrainingMember], digest: str, size: int, arriving: Arriving
    ) -> Stored:
        """Fetches in one request, from the first holder that has the stream."""
        for number, holder in enumerate(holders, 1):
            try:
                with self._store.incoming(holder.name, size) as incoming:
                    return await self._fetch_from(holder, digest, size, incoming, arriving.moved)
            except (PeerUnreachable, DigestMismatch, StreamDamaged):
                if number == len(holders):
                    raise
        raise AssertionError

    async def _fetch_segments(
        self, holders: Sequence[TrainingMember], digest: str, size: int, arriving: Arriving
    ) -> Stored:
        """Fetches from several holders at once, checks each segment as it arrives. Segments stay for a next attempt."""
        self._store.make_room(size)
        partial, failure = None, None
        pull: Pull | None = None
        try:
            for holder in holders:
                try:
                    if partial is None or pull is None:
                        partial = await self.begin(holder, digest, size)
                        pull = Pull(
                            partial,
                            self._store,
                            self.transfers,
                            lambda count: self._on_piece(count, arriving.moved),
                            lambda _: arriving.on_segment(),
                        )
                    pull.offer(Source(holder, f"/v1/models/{digest}"), range(partial.count))
                except (PeerUnreachable, DigestMismatch, StreamDamaged) as error:
                    failure = error
                if pull is not None and len(pull.sources) == MOST_HOLDERS:
                    with contextlib.suppress(PeerUnreachable, DigestMismatch):  # then the remaining holders are asked
                        return await self._complete(pull)
            if pull is None:
                raise failure or AssertionError
            return await self._complete(pull)
        finally:
            if pull is not None:
                await pull.close()

    async def _complete(self, pull: Pull) -> Stored:
        await pull.until(range(pull.partial.count))
        return await asyncio.to_thread(self._store.complete, pull.partial)

    def count(self, received: int) -> None:
        """Counts received bytes; may be called from any thread."""
        self._received(received)

    def _on_piece(self, count: int, moved: Moved) -> None:
        self._received(count)
        moved(count)

    async def begin(self, holder: TrainingMember, digest: str, size: int) -> Partial:
        """Prepares a place for the segments of a stream that ``holder`` has. Raises PeerUnreachable, DigestMismatch,
        StreamDamaged, DiskFull, StorageError.
        """
        known = self._store.partial(digest)
        if known is not None:
            return known
        manifest = await self.manifest(holder, digest, size)
        like = self._store.like(manifest.layout.hex())
        try:
            if like is None:
                header = header_of(manifest, await self._read_range(holder, digest, 0, manifest.header_size))
                parse_header(header, size)
            elif (like.model.size, like.header_size) == (size, manifest.header_size):
                header = like.header()
            else:
                raise StreamError(problem=f"{size} bytes under a header for {like.model.size}")
        except StreamError as error:
            raise StreamDamaged(node=holder.name, problem=error.facts["problem"]) from None
        return await asyncio.to_thread(self._store.begin, manifest, header)

    async def fetch_result(
        self, round_number: int, digest: str, size: int, holders: Holders, waiting: ResultWait
    ) -> Stored:
        """Fetches a merged model, with patience: a holder may be about to get it. Raises ResultUnavailable."""
        try:
            return await self.fetch(digest, size, holders, waits_s=waiting.waits_s(), on_segment=waiting.on_segment)
        except (NetworkError, DigestMismatch, StreamDamaged) as error:
            tried = ", ".join(holder.name for holder in holders()) or "nobody is known to hold it"
            raise ResultUnavailable(round=round_number, tried=f"{tried}; the last error: {error}") from None

    async def fetch_specs(self, digest: str, size: int, holder: TrainingMember) -> list[TensorSpec]:
        """The tensor specs of a stream, without fetching the stream. Raises PeerUnreachable, StreamDamaged."""
        start = await self._read_range(holder, digest, 0, LENGTH_BYTES)
        try:
            header_size = header_size_of(start, size)
            header = start + await self._read_range(holder, digest, LENGTH_BYTES, header_size)
            return parse_header(header, size)
        except StreamError as error:
            raise StreamDamaged(node=holder.name, problem=error.facts["problem"]) from None

    async def ask_progress(self, leader: TrainingMember) -> MergeProgress:
        """The leader's own progress. Raises PeerUnreachable, also if it does not answer soon or leads no merge."""
        problem = f"it did not say within {ANSWER_S:g} s how far it is"
        try:
            async with asyncio.timeout(ANSWER_S), self._get(leader, "/v1/progress") as response:
                said = await self._read_at_most(response, _FRAME_CHARACTERS)
            return MergeProgress.read(said)
        except TimeoutError:
            pass
        except ValueError:
            problem = "it answered something unreadable"
        raise PeerUnreachable(peer=leader.name, address=_address(leader), problem=problem)

    @asynccontextmanager
    async def line_to(self, merger: TrainingMember) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A connection on which a leader sends orders to ``merger``. Raises PeerUnreachable."""
        url = f"https://{_bracketed(merger.host)}:{merger.port}/v1/merge"
        try:
            context = self._context_for(merger)

            async def ask(session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
                return await session.ws_connect(url, ssl=context, max_msg_size=MESSAGE_BYTES, compress=0)

            async with await self._soon_or_anew(ask) as line:
                yield line
        except _UNREACHABLE as error:
            headers = getattr(error, "headers", None) or {}  # of an answer that refuses
            problem = headers.get(REFUSAL_HEADER, "")[:WORDS_BYTES] or str(error) or type(error).__name__
            raise PeerUnreachable(peer=merger.name, address=_address(merger), problem=problem) from None

    async def give_copy(self, holder: TrainingMember, digest: str, alive: Callable[[], object]) -> ResultCopy:
        """Asks ``holder`` to fetch a stream from here; returns the statement that it signs once it has stored it, which
        is not checked here. ``alive`` is called at each sign of progress. Raises PeerUnreachable with the reason.
        """
        async with self._request("PUT", holder, f"/v1/models/{digest}") as response:
            said = b""
            async for piece in response.content.iter_any():
                if not piece.strip(COPY_MOVES):
                    alive()
                said = (said + piece)[-COPY_ANSWER_BYTES:]
        _, taken, copy = said.rpartition(COPY_TAKEN)
        if taken:
            with contextlib.suppress(ValueError, DecodeError):
                return ResultCopy.FromString(base64.b64decode(copy, validate=True))
        problem = said.strip(COPY_MOVES + b"\n")[:WORDS_BYTES].decode("utf-8", "replace") or "it broke off"
        raise PeerUnreachable(peer=holder.name, address=_address(holder), problem=problem)

    async def _fetch_from(
        self, holder: TrainingMember, digest: str, size: int, incoming: Incoming, moved: Moved
    ) -> Stored:
        async with self._get(holder, f"/v1/models/{digest}") as response:
            if response.content_length != size:
                raise DigestMismatch(node=holder.name, found=f"{response.content_length} bytes", expected=size)
            async for piece in self._pieces(response):
                incoming.write(piece)
                self._on_piece(len(piece), moved)
        if incoming.taken.size < size:
            raise PeerUnreachable(peer=holder.name, address=_address(holder), problem="it broke off")
        found = incoming.taken.digest().hex()
        if found != digest:
            raise DigestMismatch(node=holder.name, found=found, expected=digest)
        return incoming.commit()

    async def manifest(self, holder: TrainingMember, digest: str, size: int) -> Manifest:
        """The hashes from which the digest is computed. Raises PeerUnreachable, DigestMismatch."""
        stored = self._store.get(digest)
        if stored is not None:
            return stored.manifest
        limit = manifest_limit(size)
        async with self._get(holder, f"/v1/models/{digest}/segments") as response:
            text = await self._read_at_most(response, limit)
        try:
            manifest = Manifest.read(text)
            found = manifest.digest if manifest.size == size else f"{manifest.size} bytes"
        except ValueError:
            found = "something unreadable"
        if found != digest:
            raise DigestMismatch(node=holder.name, found=found, expected=digest)
        return manifest

    async def _read_range(self, holder: TrainingMember, digest: str, start: int, stop: int) -> bytes:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        async with self._get(holder, f"/v1/models/{digest}", headers) as response:
            data = await self._read_at_most(response, stop - start)
        if len(data) < stop - start:
            raise StreamDamaged(node=holder.name, problem="it is cut short")
        return data

    async def _read_at_most(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """The body, cut after ``limit`` bytes. Raises TimeoutError."""
        data = bytearray()
        async for piece in self._pieces(response):
            data += piece[: limit - len(data)]
            if len(data) == limit:
                break
        return bytes(data)

    async def _pieces(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises TimeoutError if almost nothing arrives."""
        began, since = monotonic(), 0
        async for piece in response.content.iter_any():
            yield piece
            since += len(piece)
            if (now := monotonic()) - began > self.stall_s:
                if since < LEAST_BYTES_PER_S * self.stall_s:
                    raise TimeoutError(f"it sent {since} bytes in {now - began:.1f} s")
                began, since = now, 0

    def _get(
        self, holder: TrainingMember, path: str, headers: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._request("GET", holder, path, headers)

    def _context_for(self, holder: TrainingMember) -> ssl.SSLContext:
        expected = expected_at(holder)
        if expected not in self._contexts:
            self._contexts[expected] = self._identity.client_context(expected)
        return self._contexts[expected]

    @asynccontextmanager
    async def _request(
        self, method: str, holder: TrainingMember, path: str, headers: dict[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        host = _bracketed(holder.host)
        try:
            async with await self._answered(method, f"https://{host}:{holder.port}{path}", holder, headers) as response:
                if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                    words = (await self._read_at_most(response, WORDS_BYTES)).decode("utf-8", "replace")
                    problem = f"it answered {response.status} ({words})"
                    raise PeerUnreachable(peer=holder.name, address=_address(holder), problem=problem)
                yield response
        except _UNREACHABLE as error:
            problem = str(error) or type(error).__name__
            raise PeerUnreachable(peer=holder.name, address=_address(holder), problem=problem) from None

    async def _answered(
        self, method: str, url: str, holder: TrainingMember, headers: dict[str, str] | None
    ) -> aiohttp.ClientResponse:
        """Sends a request; returns once the head of the answer is here."""
        context = self._context_for(holder)

        async def ask(session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
            return await session.request(method, url, headers=headers, allow_redirects=False, ssl=context)

        return await self._soon_or_anew(ask)

    async def _soon_or_anew(self, ask: Callable[[aiohttp.ClientSession], Awaitable[Answered]]) -> Answered:
        """The result of ``ask``, which is repeated over a new connection if nothing comes soon. All requests between
        peers may safely be repeated.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(SUSPECT_AFTER_S, self.stall_s)):
                return await ask(self._session)
        return await ask(self._anew)


def manifest_limit(size: int) -> int:
    """Bytes of the longest manifest for a stream of this size."""
    return (size // SEGMENT_BYTES + 1) * _HASH_CHARACTERS + _FRAME_CHARACTERS


def _probed_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket for a connection to that address."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    probe(made)
    return made


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _address(holder: TrainingMember) -> str:
    return f"{holder.host}:{holder.port}"
