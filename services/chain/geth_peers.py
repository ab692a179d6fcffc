"""What geth does for the SNs beside sealing: whom it talks to, and blocks that are handed over by hand."""

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

# Asked for together: one by one most of the time goes into waiting.
BLOCKS_AT_ONCE = 128

_ENODE = re.compile(r"enode://(?P<key>[0-9a-f]{128})@(?P<address>[^?/@]{3,270})")

Request = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Enode:
    """A geth and where it is reached. ``key``: 128 hexadecimal digits, by which it is known to others."""

    key: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of its written form, an enode URL. Raises ValueError, in words."""
        found = _ENODE.fullmatch(text)
        if found is None:
            raise ValueError("it is no enode URL of a host and a port")
        return cls(found["key"], *split_address(found["address"], 0))

    def __str__(self) -> str:
        return f"enode://{self.key}@{join_address(self.host, self.port)}"


class GethPeers:
    """``request`` asks geth. All of it raises ChainError where geth is away for long."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def trust(self, enode: Enode) -> None:
        """Lets the geth of another SN connect. Both do so before either dials: geth repeats no refused call soon.

        Raises ValueError for a key that is none.
        """
        try:
            await self._request("admin_addTrustedPeer", str(enode))
        except RpcError as error:
            raise ValueError(str(error)) from None

    async def dial(self, enode: Enode) -> None:
        await self._request("admin_addPeer", str(enode))

    async def forget(self, enode: Enode) -> None:
        """It has another one now."""
        await self._request("admin_removePeer", str(enode))
        await self._request("admin_removeTrustedPeer", str(enode))

    async def listens_on(self) -> int:
        """The port on loopback; another one each time that geth is started."""
        return int((await self._request("admin_nodeInfo"))["ports"]["listener"])

    async def enode(self, host: str, port: int) -> Enode:
        """This one, for others that find it on ``host`` at ``port``."""
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
        """Takes blocks as ``raw_blocks`` gives them, by way of a file at ``path``, which is removed."""
        with _file_of(path, pieces):
            try:
                await self._request("admin_importChain", str(path))
            except RpcError as error:
                raise ChainError(problem=f"geth did not take blocks: {error}", log="geth.log") from None


@contextlib.contextmanager
def _file_of(path: Path, pieces: Iterable[bytes]) -> Iterator[None]:
    """Raises StorageError where it cannot be written."""
    try:
        with path.open("wb") as file:
            file.writelines(pieces)
        yield
    except OSError as error:
        raise StorageError(path=path, problem=error.strerror or str(error)) from None
    finally:
        path.unlink(missing_ok=True)
