"""What geth does for the SNs besides sealing: its peers, and blocks that are exported and imported."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from services.chain.rpc import RpcError
from services.errors import ChainError, StorageError
from services.runtime.addresses import join_address, split_address

# Requested together: one by one, most of the time would be waiting.
BLOCKS_AT_ONCE = 128

_ENODE = re.compile(r"enode://(?P<key>[0-9a-f]{128})@(?P<address>[^?/@]{3,270})")

Request = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Enode:
    """A geth and its address. ``key``: 128 hexadecimal digits, by which others know it."""

    key: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From an enode URL. Raises ValueError with a message for people."""
        found = _ENODE.fullmatch(text)
        if found is None:
            raise ValueError("it is no enode URL of a host and a port")
        return cls(found["key"], *split_address(found["address"], 0))

    def __str__(self) -> str:
        return f"enode://{self.key}@{join_address(self.host, self.port)}"


class GethPeers:
    """``request`` asks geth. All methods raise ChainError if geth is down for long."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def trust(self, enode: Enode) -> None:
        """Lets the geth of another SN connect. Both do this before either dials: geth does not soon redial if refused.

        Raises ValueError if the key is not valid.
        """
        try:
            await self._request("admin_addTrustedPeer", str(enode))
        except RpcError as error:
            raise ValueError(str(error)) from None

    async def dial(self, enode: Enode) -> None:
        await self._request("admin_addPeer", str(enode))

    async def forget(self, enode: Enode) -> None:
        """Removes a geth whose SN has another one now."""
        await self._request("admin_removePeer", str(enode))
        await self._request("admin_removeTrustedPeer", str(enode))

    async def listens_on(self) -> int:
        """The loopback port; a different one each time geth starts."""
        return int((await self._request("admin_nodeInfo"))["ports"]["listener"])

    async def enode(self, host: str, port: int) -> Enode:
        """The enode of this geth, for others that reach it on ``host`` at ``port``."""
        return Enode(
            (await self._request("admin_nodeInfo"))["enode"].removeprefix("enode://").partition("@")[0], host, port
        )

    async def newest(self) -> int:
        """The number of the newest block, whether or not it is final."""
        return int(await self._request("eth_blockNumber"), 16)

    async def raw_blocks(self, since: int) -> AsyncIterator[bytes]:
        """The blocks after number ``since``, as geth writes them to a file."""
        number = since + 1
        while number <= (head := await self.newest()):
            batch = range(number, min(head + 1, number + BLOCKS_AT_ONCE))
            for raw in await asyncio.gather(*(self._request("debug_getRawBlock", hex(one)) for one in batch)):
                yield bytes.fromhex(raw[2:])
            number = batch.stop

    async def import_blocks(self, path: Path, pieces: Iterable[bytes]) -> None:
        """Imports blocks from ``raw_blocks``, through a file at ``path``, which is then removed."""
        with _file_of(path, pieces):
            try:
                await self._request("admin_importChain", str(path))
            except RpcError as error:
                raise ChainError(problem=f"geth did not take blocks: {error}", log="geth.log") from None


@contextlib.contextmanager
def _file_of(path: Path, pieces: Iterable[bytes]) -> Iterator[None]:
    """Raises StorageError if the file cannot be written."""
    try:
        with path.open("wb") as file:
            file.writelines(pieces)
        yield
    except OSError as error:
        raise StorageError(path=path, problem=error.strerror or str(error)) from None
    finally:
        path.unlink(missing_ok=True)
