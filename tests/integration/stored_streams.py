"""Streams in a store, and the server from which others read them."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
from open_readers import everything

from services.identity.identity import PeerIdentity
from services.sl.transfer.file_server import FileServer, bind
from services.sl.transfer.store import Store, Stored
from services.sl.view import TrainingMember
from swarm_callback.params import encode


def put(store: Store, elements: int, value: float | None = None) -> Stored:
    """``elements`` float32 of the tensor ``w``, each ``value``, or by chance without one: such do not pack."""
    random = np.random.default_rng(1).random(elements, dtype=np.float32)
    header, data = encode({"w": random if value is None else np.full(elements, value, np.float32)})
    with store.incoming("sl-1", len(header) + 4 * elements) as incoming:
        incoming.write(header)
        for piece in data:
            incoming.write(piece)
        return incoming.commit()


def member(name: str, port: int) -> TrainingMember:
    return TrainingMember(name, "localhost", port, "", active=True)


@contextlib.asynccontextmanager
async def serving(
    pki: Any, store: Store, may_read: Callable[[PeerIdentity], bool] = lambda _: True, name: str = "sl-1"
) -> AsyncIterator[int]:
    """Serves a store; yields the port."""
    server = FileServer(pki.identity("sl", name), store, everything(may_read))
    with bind("127.0.0.1", 0) as bound:
        await server.start(bound)
        try:
            yield bound.getsockname()[1]
        finally:
            await server.stop()
