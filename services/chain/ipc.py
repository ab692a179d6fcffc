"""JSON-RPC over geth's Unix socket: requests that overlap, and the notifications of one subscription."""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.errors import ChainError
from services.runtime.background import Background

MESSAGE_LIMIT_BYTES = 256 * 2**20
READ_BYTES = 2**20
REQUEST_TIMEOUT_S = 30.0

# geth says at the beginning of an answer which request it is for.
_ID = re.compile(rb'\s*\{"jsonrpc":"2\.0","id":(\d+),')


class ConnectionLost(Exception):
    """geth closed the socket; the request may or may not have been carried out."""


class RpcError(Exception):
    """geth answered with an error. ``data`` is what came with it, such as revert data in hex."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.data = data


class AnswerTooLong(Exception):
    """geth answered, with more than the request was to bring."""


@dataclass(frozen=True)
class _Asked:
    """A request that waits for its answer, which may be ``most_bytes`` long."""

    answer: asyncio.Future[Any]
    most_bytes: int


class IpcConnection:
    """One open connection. ``on_notification`` gets the result of each notification, in order."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_notification: Callable[[Any], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_notification = on_notification
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Asked] = {}
        self.lost = asyncio.Event()
        self._background = Background("chain")
        self._background.run(self._read(), "reading from geth")

    @classmethod
    async def open(cls, path: Path, on_notification: Callable[[Any], None]) -> "IpcConnection":
        """Raises OSError where nobody listens."""
        reader, writer = await asyncio.open_unix_connection(path, limit=READ_BYTES)
        return cls(reader, writer, on_notification)

    async def request(self, method: str, *parameters: Any, most_bytes: int = MESSAGE_LIMIT_BYTES) -> Any:
        """The result. Raises RpcError, ConnectionLost, ChainError where no answer comes in time, and AnswerTooLong.

        An answer of more than ``most_bytes`` is passed over without being kept; the connection goes on.
        """
        if self.lost.is_set():
            raise ConnectionLost
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = _Asked(future, most_bytes)
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
        self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                return await future
        except TimeoutError:
            raise ChainError(problem=f"no answer to {method} in {REQUEST_TIMEOUT_S:.0f} s", log="geth.log") from None
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        self._writer.close()
        await self._background.close()

    async def _read(self) -> None:
        try:
            async for line in self._lines():
                self._dispatch(line)
        except (OSError, ValueError):  # ValueError: not JSON; it is over
            pass
        finally:
            self.lost.set()
            self._writer.close()
            for asked in self._waiting.values():
                if not asked.answer.done():
                    asked.answer.set_exception(ConnectionLost())

    async def _lines(self) -> AsyncIterator[bytes]:
        """The messages, one by one. One that is longer than it may be is passed over; its request hears of it."""
        begun = bytearray()  # a message whose end has not come
        most_bytes = 0  # that it may have; 0: not known yet
        passing_over = False
        while chunk := await self._reader.read(READ_BYTES):
            *ends, rest = chunk.split(b"\n")
            for end in ends:
                if not passing_over:
                    yield bytes(begun + end)
                begun, most_bytes, passing_over = bytearray(), 0, False
            if passing_over:
                continue
            begun += rest
            if len(begun) > READ_BYTES:
                most_bytes = most_bytes or self._most_bytes(begun)
                if len(begun) > most_bytes:
                    self._refuse(begun)
                    begun, passing_over = bytearray(), True

    def _asked(self, begun: bytearray) -> _Asked | None:
        """The request that a message answers, of which there is only the beginning."""
        found = _ID.match(begun)
        return self._waiting.get(int(found[1])) if found else None

    def _most_bytes(self, begun: bytearray) -> int:
        asked = self._asked(begun)
        return asked.most_bytes if asked else MESSAGE_LIMIT_BYTES

    def _refuse(self, begun: bytearray) -> None:
        asked = self._asked(begun)
        if asked is not None and not asked.answer.done():
            asked.answer.set_exception(AnswerTooLong())

    def _dispatch(self, line: bytes) -> None:
        message = json.loads(line)
        if "id" not in message:
            self._on_notification(message["params"]["result"])
            return
        asked = self._waiting.get(message["id"])
        if asked is None or asked.answer.done():  # the caller gave up
            return
        if "error" in message:
            error = message["error"]
            asked.answer.set_exception(RpcError(error["message"], error.get("data")))
        elif len(line) > asked.most_bytes:
            asked.answer.set_exception(AnswerTooLong())
        else:
            asked.answer.set_result(message["result"])
