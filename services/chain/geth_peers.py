"""What geth does for the SNs beside sealing: whom it talks to, and blocks that are handed over by hand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from services.chain.rpc import RpcError
from services.errors import ChainError, StorageError
from services.runtime.addresses import join_address

# Asked for together: one by one most of the time goes into waiting.
BLOCKS_AT_ONCE = 128

Request = Callable[..., Awaitable[Any]]


class GethPeers:
    """``request`` asks geth. All of it raises ChainError where geth is away for long."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def trust(self, enode: str) -> None:
        """Lets the geth of another SN connect. Both do so before either dials: geth repeats no refused call soon."""
        await self._request("admin_addTrustedPeer", enode)

    async def dial(self, enode: str) -> None:
        await self._request("admin_addPeer", enode)

    async def forget(self, enode: str) -> None:
        """It has another one now."""
        await self._request("admin_removePeer", enode)
        await self._request("admin_removeTrustedPeer", enode)

    async def enode(self, host: str, port: int = 0) -> str:
        """Where the others' geth find this one: on ``host``, at ``port``, 0 for the one that it listens on."""
        info = await self._request("admin_nodeInfo")
        return f"{info['enode'].split('@')[0]}@{join_address(host, port or info['ports']['listener'])}"

    async def raw_blocks(self, since: int) -> AsyncIterator[bytes]:
        """The blocks after number ``since``, as geth writes them to a file."""
        number = since + 1
        while number <= (head := int(await self._request("eth_blockNumber"), 16)):
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
