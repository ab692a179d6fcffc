"""web3's persistent connection to geth's socket: concurrent requests, and the notifications of a subscription."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from web3.exceptions import PersistentConnectionClosedOK, ProviderConnectionError
from web3.providers.persistent import AsyncIPCProvider
from web3.types import RPCEndpoint, RPCRequest, RPCResponse

from services.chain.rpc import MESSAGE_LIMIT_BYTES, AnswerTooLong, ConnectionLost, RpcError
from services.errors import ChainError
from services.runtime import logs

READ_BYTES = 2**20
REQUEST_TIMEOUT_S = 30.0

# An answer of geth begins with the id of its request.
_ID = re.compile(rb'\s*\{"jsonrpc":"2\.0","id":(\d+),')


@dataclass
class _Asked:
    """A request that waits for its answer, of at most ``most_bytes``."""

    method: str
    answer: asyncio.Future[RPCResponse]
    most_bytes: int = MESSAGE_LIMIT_BYTES


class IpcConnection(AsyncIPCProvider):
    """One open connection. ``on_notification`` gets the result of each notification, in order.

    Four things differ from web3 8.0, whose behaviour does not suit a node that runs for years:

    - In web3, waiting requests poll for their answer in every turn of the event loop: a processor is busy while geth
      works on one, and an answer takes 0.11 ms instead of 0.08; with 64 requests, each takes 0.16 ms of processor time
      instead of 0.02. Here the answer wakes its request.
    - web3 keeps answers that nobody waits for any more. Here they are dropped.
    - In web3, an answer longer than the buffer ends the connection. Here it ends only its request.
    - In web3, a request on a broken socket opens a new one, which has no subscriptions. Here the connection ends.

    web3's methods above the provider convert what Clique keeps elsewhere (``extraData``) and take another 0.06 ms.
    """

    def __init__(self, path: Path, on_notification: Callable[[Any], None]) -> None:
        super().__init__(
            path, read_buffer_limit=READ_BYTES, max_connection_retries=1, request_timeout=REQUEST_TIMEOUT_S
        )
        self._on_notification = on_notification
        self._waiting: dict[int, _Asked] = {}
        self._log = logs.get("chain")
        self.lost = asyncio.Event()

    @classmethod
    async def open(cls, path: Path, on_notification: Callable[[Any], None]) -> Self:
        """Raises ConnectionLost if nobody listens."""
        connection = cls(path, on_notification)
        try:
            await connection.connect()
        except ProviderConnectionError:
            raise ConnectionLost from None
        return connection

    async def request(self, method: str, *parameters: Any, most_bytes: int = MESSAGE_LIMIT_BYTES) -> Any:
        """The result. Raises RpcError, ConnectionLost, AnswerTooLong, and ChainError if no answer comes in time.

        An answer of more than ``most_bytes`` is discarded as it arrives; the connection stays open.
        """
        asked = await self.send_request(RPCEndpoint(method), parameters)
        self._waiting[_number(asked)].most_bytes = most_bytes
        answer = await self.recv_for_request(asked)
        if "error" in answer:
            error: Any = answer["error"]
            raise RpcError(error["message"], error.get("data"))
        return answer["result"]

    async def close(self) -> None:
        with contextlib.suppress(OSError):
            await self.disconnect()

    # --- what web3 calls ----------------------------------------------------------------------------

    async def send_request(self, method: RPCEndpoint, params: Any) -> RPCRequest:
        """Does not wait. Raises ConnectionLost."""
        if self.lost.is_set() or self._writer is None:
            raise ConnectionLost
        asked = self.form_request(method, params)
        self._waiting[_number(asked)] = _Asked(method, asyncio.get_running_loop().create_future())
        self._writer.write(self.encode_rpc_dict(asked) + b"\n")
        return asked

    async def recv_for_request(self, rpc_request: RPCRequest) -> RPCResponse:
        """Raises as ``request`` does, except RpcError."""
        number = _number(rpc_request)
        asked = self._waiting[number]
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                return await asked.answer
        except TimeoutError:
            problem = f"no answer to {asked.method} in {REQUEST_TIMEOUT_S:.0f} s"
            raise ChainError(problem=problem, log="geth.log") from None
        finally:
            self._waiting.pop(number, None)

    async def socket_recv(self) -> RPCResponse:
        """Never returns: reads until the connection ends, and hands each message to whoever waits for it."""
        try:
            async for line in self._lines():
                self._dispatch(line)
        except OSError:
            pass
        except Exception as error:  # the message was not JSON-RPC
            self._log.warning("the connection to geth ends", problem=repr(error)[:200])
        finally:
            self.lost.set()
            if self._writer is not None:
                self._writer.close()
            for asked in self._waiting.values():
                if not asked.answer.done():
                    asked.answer.set_exception(ConnectionLost())
        raise PersistentConnectionClosedOK(user_message="the connection to geth ended")

    # --- reading ------------------------------------------------------------------------------------

    async def _lines(self) -> AsyncIterator[bytes]:
        """The messages, one by one. A message that is too long is skipped, and its request fails."""
        begun = bytearray()  # a message whose end has not arrived
        most_bytes = 0  # its limit; 0: not known yet
        passing_over = False
        assert self._reader is not None  # noqa: S101 - web3 listens to what is connected
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
        """The request that a message answers, given the beginning of the message."""
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
        message: Any = self.decode_rpc_response(line)
        if "id" not in message:
            self._on_notification(message["params"]["result"])
            return
        asked = self._waiting.get(message["id"])
        if asked is None or asked.answer.done():  # the caller gave up
            return
        if len(line) > asked.most_bytes:
            asked.answer.set_exception(AnswerTooLong())
        else:
            asked.answer.set_result(message)


def _number(request: RPCRequest) -> int:
    """web3 counts requests itself."""
    number: Any = request["id"]
    return int(number)
