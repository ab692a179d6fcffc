"""How a node tells its starter, the process that started it, that it is ready, and learns that the starter is gone.

The starter passes one end of a socket pair, with its number in SWARM_READY_FD. The node writes one JSON line when it is
ready. The starter keeps its own end open as long as the node should live. With SWARM_START_HELD, it holds the node back
until it writes one JSON line itself: the settings that it did not know before.
"""

import asyncio
import json
import os
import socket
from typing import Any

from services.runtime.health import Health

READY_FD_VARIABLE = "SWARM_READY_FD"
HELD_VARIABLE = "SWARM_START_HELD"


def settings_told_late() -> dict[str, Any]:
    """If the starter holds this node back, waits for its line and returns the settings in it, by field name.

    So nodes that need each other's ports can load their code at the same time. Ends the process if the starter ends.
    """
    if os.environ.pop(HELD_VARIABLE, None) is None:
        return {}
    with socket.socket(fileno=os.dup(int(os.environ[READY_FD_VARIABLE]))) as line, line.makefile() as words:
        word = words.readline()
    if not word:
        raise SystemExit(0)
    told: dict[str, Any] = json.loads(word)
    return told


class ReadySocket:
    """The node's end of the socket. Without a starter, readiness shows only in the health file."""

    def __init__(self) -> None:
        self.health = Health()
        number = os.environ.pop(READY_FD_VARIABLE, None)
        self._socket = socket.socket(fileno=int(number)) if number else None

    def report(self, **facts: Any) -> None:
        """Reports that this node is ready, with facts such as its port. Raises StorageError."""
        self.health.ready()
        if self._socket is not None:
            self._socket.sendall(json.dumps(facts).encode() + b"\n")

    async def starter_gone(self) -> None:
        """Returns when the starter has closed its end; never, if there is no starter."""
        if self._socket is None:
            await asyncio.Event().wait()
            return
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        while await loop.sock_recv(self._socket, 64):
            pass
