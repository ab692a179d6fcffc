"""Talks to a container engine over its socket: the Docker Engine API, which Podman speaks as well.

It uses aiohttp, not a client library: the existing ones block a thread for each program that is awaited, cannot cancel
a build half-way, or hold a whole archive in memory.
"""

import asyncio
import contextlib
import errno
import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp

from services.errors import NotSupported, RuntimeAbsent, RuntimeForbidden, RuntimeGone, SwarmError
from services.swop.executors.engine import Engine

ANSWER_WITHIN_S = 60.0
CONNECT_WITHIN_S = 10.0
NEWEST_API = (1, 47)
SUBPATHS_SINCE_API = (1, 45)
PIECE_BYTES = 256 * 1024
LINE_LIMIT_BYTES = 1024 * 1024
MESSAGE_LIMIT = 600


class Refusal(Exception):
    """The engine answered with an error. The caller, who knows what was asked for, turns it into a SwarmError."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class EngineApi:
    """One engine. Every method raises RuntimeAbsent, RuntimeForbidden, RuntimeGone or Refusal."""

    def __init__(self, engine: Engine, address: str) -> None:
        self.engine = engine
        self.address = address
        self.socket = socket_of(engine, address)
        self.version: tuple[int, int] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def json(
        self, method: str, path: str, *, doing: str, query: Mapping[str, str] | None = None, body: Any = None,
        unbounded: bool = False,
    ) -> Any:  # fmt: skip
        """The answer as JSON; None if it is empty. ``unbounded``: no time limit, such as to wait for a program."""
        async with self._ask(method, path, doing, query, json_body=body, unbounded=unbounded) as answer:
            return self._parsed(await answer.read(), doing)

    async def lines(
        self, path: str, *, doing: str, query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None, upload: BinaryIO | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:  # fmt: skip
        """A POST whose answer is a stream of JSON objects. If it is closed early, the engine stops its work."""
        async with self._ask("POST", path, doing, query, headers=headers, upload=upload, unbounded=True) as answer:
            pending = b""
            async for piece in answer.content.iter_any():
                *whole, pending = (pending + piece).split(b"\n")
                if len(pending) > LINE_LIMIT_BYTES:
                    raise self._not_an_engine(doing)
                for line in filter(bytes.strip, whole):
                    yield self._parsed(line, doing)
            if pending.strip():
                yield self._parsed(pending, doing)

    async def pieces(
        self, path: str, *, doing: str, query: Mapping[str, str] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The answer to a GET in pieces, as they arrive; no limit on its length."""
        async with self._ask("GET", path, doing, query, unbounded=True) as answer:
            async for piece in answer.content.iter_chunked(PIECE_BYTES):
                yield piece

    async def exists(self, path: str, *, doing: str, query: Mapping[str, str] | None = None) -> bool:
        """Whether a HEAD request finds something at this path."""
        try:
            async with self._ask("HEAD", path, doing, query):
                return True
        except Refusal as refusal:
            if refusal.status == 404:
                return False
            raise

    async def upload(
        self, method: str, path: str, content: BinaryIO, *, doing: str, query: Mapping[str, str] | None = None
    ) -> Any:
        """Sends a file. Returns the answer as JSON; None if it is empty."""
        async with self._ask(method, path, doing, query, upload=content, unbounded=True) as answer:
            return self._parsed(await answer.read(), doing)

    async def negotiate(self) -> dict[str, Any]:
        """Agrees on an API version. Returns the engine's answer about its own version."""
        said = await self.json("GET", "/version", doing="while it was asked for its version")
        if not isinstance(said, dict):
            raise self._not_an_engine("while it was asked for its version")
        newest, oldest = _api_version(said.get("ApiVersion")), _api_version(said.get("MinAPIVersion"))
        self.version = max(oldest, min(newest, NEWEST_API))
        return dict(said)

    async def has_subpaths(self) -> bool:
        """Whether a part of a volume can be mounted."""
        if self.version is None:
            await self.negotiate()
        return self.version is not None and self.version >= SUBPATHS_SINCE_API

    # --- how it is done ------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _ask(
        self, method: str, path: str, doing: str, query: Mapping[str, str] | None = None, *,
        headers: Mapping[str, str] | None = None, json_body: Any = None, upload: BinaryIO | None = None,
        unbounded: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
        if self.version is None and path != "/version":
            await self.negotiate()
        version = f"/v{self.version[0]}.{self.version[1]}" if self.version else ""
        timeout = aiohttp.ClientTimeout(
            total=None if unbounded else ANSWER_WITHIN_S, sock_connect=CONNECT_WITHIN_S, sock_read=None
        )
        sent = {"Content-Type": "application/x-tar"} if upload is not None else {}
        try:
            async with self._open().request(
                method, f"http://engine{version}{path}", params=query, headers={**sent, **(headers or {})},
                json=json_body, data=_pieces(upload) if upload is not None else None, timeout=timeout,
            ) as answer:  # fmt: skip
                if answer.status >= 400:
                    raise Refusal(answer.status, _message(await answer.content.read(LINE_LIMIT_BYTES)))
                yield answer
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise self._failure(error, doing) from None

    def _parsed(self, text: bytes, doing: str) -> Any:
        try:
            return json.loads(text) if text.strip() else None
        except ValueError:
            raise self._not_an_engine(doing) from None

    def _not_an_engine(self, doing: str) -> SwarmError:
        problem = "what answers there does not speak Docker's API"
        return RuntimeGone(runtime=self.engine.title, address=self.address, doing=doing, problem=problem)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.UnixConnector(str(self.socket), limit=0)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self._session

    def _failure(self, error: Exception, doing: str) -> SwarmError:
        facts = {"runtime": self.engine.title, "address": self.address}
        number = getattr(error, "errno", None) or getattr(getattr(error, "os_error", None), "errno", None)
        if number in (errno.EACCES, errno.EPERM):
            group = _group_of(self.socket)
            return RuntimeForbidden(**facts, uid=os.geteuid(), group=group, problem="the socket may not be opened")
        if number in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTSOCK, errno.ENOTDIR) and isinstance(
            error, aiohttp.ClientConnectorError
        ):
            problem = "nobody listens there" if number == errno.ECONNREFUSED else "there is no such socket"
            return RuntimeAbsent(
                **facts, problem=problem, install=self.engine.install, variable=self.engine.address_variable
            )
        if isinstance(error, TimeoutError):
            return RuntimeGone(**facts, doing=doing, problem=f"no answer within {ANSWER_WITHIN_S:.0f} s")
        return RuntimeGone(**facts, doing=doing, problem="the connection was closed")


def socket_of(engine: Engine, address: str) -> Path:
    """The socket of an address such as ``unix:///run/docker.sock``. Raises NotSupported for other kinds of address."""
    if address.startswith("unix://"):
        return Path(address.removeprefix("unix://"))
    if address.startswith("/"):
        return Path(address)
    raise NotSupported(
        executor=engine.kind, option=f"address {address}", problem="only a socket of this host (unix:///path) is used"
    )


async def _pieces(content: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(content.read, PIECE_BYTES):
        yield piece


def _message(body: bytes) -> str:
    """The engine's message, in one line."""
    try:
        said = json.loads(body)
        text = str(said.get("message") or said.get("cause") or body.decode(errors="replace"))
    except (ValueError, AttributeError):
        text = body.decode(errors="replace")
    return " ".join(text.split())[:MESSAGE_LIMIT] or "no reason given"


def _api_version(text: Any) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)\.(\d+)", str(text))
    return (int(found[1]), int(found[2])) if found else (1, 41)


def _group_of(path: Path) -> str:
    try:
        return path.group()
    except (OSError, KeyError):
        return "its group"
