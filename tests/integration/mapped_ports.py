"""A port mapping like Docker's: connections to one port go to another port of this host."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any


class MappedPort:
    """``port`` is open from the start; connections are passed on to ``target``, which is set once it is known.

    ``delay_s``: the delay in each direction, as between continents.
    """

    def __init__(self, delay_s: float = 0.0) -> None:
        self.port = 0
        self.target = 0
        self.delay_s = delay_s
        self.connections = 0
        self.has_swallowed = asyncio.Event()
        self.passing: set[asyncio.Task[Any]] = set()
        self._forgotten = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def end(self) -> None:
        """Ends all open connections at once."""
        for writer in self._open:
            writer.transport.abort()
        if self.passing:
            await asyncio.wait(self.passing)

    def forget(self) -> None:
        """Makes open connections swallow all data, like a firewall that has dropped an idle connection."""
        self._forgotten = self.connections

    async def passes_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        if (task := asyncio.current_task()) is not None:
            self.passing.add(task)
            task.add_done_callback(self.passing.discard)
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self._open |= {writer, inner_writer}
        try:
            await asyncio.gather(self._pump(number, reader, inner_writer), self._pump(number, inner_reader, writer))
        finally:
            self._open -= {writer, inner_writer}

    async def _pump(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                if number <= self._forgotten:
                    self.has_swallowed.set()
                    continue
                if self.delay_s:
                    asyncio.get_running_loop().call_later(self.delay_s, writer.write, piece)
                else:
                    writer.write(piece)
                    await writer.drain()
        if self.delay_s:  # what is still on its way
            await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=self.delay_s)
        writer.close()


@contextlib.asynccontextmanager
async def mapped_port(delay_s: float = 0.0) -> AsyncIterator[MappedPort]:
    mapping = MappedPort(delay_s)
    server = await asyncio.start_server(mapping.passes_on, "127.0.0.1", 0)
    mapping.port = server.sockets[0].getsockname()[1]
    try:
        yield mapping
    finally:
        server.close()
        await mapping.end()
