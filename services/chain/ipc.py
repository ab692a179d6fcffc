"""JSON-RPC over geth's Unix socket: requests that overlap, and the notifications of one subscription."""

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.errors import ChainError

MESSAGE_LIMIT_BYTES = 256 * 2**20
REQUEST_TIMEOUT_S = 30.0


class ConnectionLost(Exception):
    """geth closed the socket; the request may or may not have been carried out."""


class RpcError(Exception):
    """geth answered with an error. ``data`` is what came with it, such as revert data in hex."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.data = data


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
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.lost = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, path: Path, on_notification: Callable[[Any], None]) -> "IpcConnection":
        """Raises OSError where nobody listens."""
        reader, writer = await asyncio.open_unix_connection(path, limit=MESSAGE_LIMIT_BYTES)
        return cls(reader, writer, on_notification)

    async def request(self, method: str, *parameters: Any) -> Any:
        """The result. Raises RpcError, ConnectionLost, and ChainError where no answer comes in time."""
        if self.lost.is_set():
            raise ConnectionLost
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
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
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                self._dispatch(json.loads(line))
        except (OSError, ValueError):  # ValueError: not JSON, or longer than the limit; either way it is over
            pass
        finally:
            self.lost.set()
            self._writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionLost())

    def _dispatch(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            self._on_notification(message["params"]["result"])
            return
        future = self._waiting.get(message["id"])
        if future is None or future.done():  # the caller gave up
            return
        if "error" in message:
            error = message["error"]
            future.set_exception(RpcError(error["message"], error.get("data")))
        else:
            future.set_result(message["result"])
