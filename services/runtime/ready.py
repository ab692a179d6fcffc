"""How a node tells the process that started it that it is ready, and learns that this process is gone.

The starter passes one end of a socket pair and its number in SWARM_READY_FD. The node writes one JSON line
when it is ready. The starter keeps its end open for as long as the node shall live.
"""

import asyncio
import json
import os
import socket
from typing import Any

READY_FD_VARIABLE = "SWARM_READY_FD"


class ReadySocket:
    """The node's end; does nothing where no starter waits."""

    def __init__(self) -> None:
        number = os.environ.pop(READY_FD_VARIABLE, None)
        self._socket = socket.socket(fileno=int(number)) if number else None

    def report(self, **facts: Any) -> None:
        """Says that this node is ready, with facts such as the port it got."""
        if self._socket is not None:
            self._socket.sendall(json.dumps(facts).encode() + b"\n")

    async def starter_gone(self) -> None:
        """Returns when the starter has closed its end; never, where there is none."""
        if self._socket is None:
            await asyncio.Event().wait()
            return
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        while await loop.sock_recv(self._socket, 64):
            pass
