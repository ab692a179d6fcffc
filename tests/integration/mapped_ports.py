"""A port mapping as Docker makes one: what comes in at one port goes to another one of this host."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator


class MappedPort:
    """``port`` is open from the start; connections are passed on to ``target``, which is set once it is known."""

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self.connections = 0

    async def passes_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


@contextlib.asynccontextmanager
async def mapped_port() -> AsyncIterator[MappedPort]:
    mapping = MappedPort()
    server = await asyncio.start_server(mapping.passes_on, "127.0.0.1", 0)
    mapping.port = server.sockets[0].getsockname()[1]
    try:
        yield mapping
    finally:
        server.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()
