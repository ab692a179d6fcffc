"""Long-lived connections: each ends once the peer at its other end is no longer accepted."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

from services.errors import EXPIRED, SwarmError
from services.identity import organizations
from services.runtime import logs

_log = logs.get("identity")

Judge = Callable[[], object]
End = Callable[[SwarmError], object]


class LiveConnections:
    """``held`` holds a connection as long as it lasts; ``run`` judges all of them again and again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[object, tuple[Judge, End]] = {}

    @contextlib.contextmanager
    def held(self, judge: Judge | None, end: End) -> Iterator[None]:
        """Once ``judge`` raises a SwarmError with the reason, ``end`` is called, once and in the event loop.

        May be used in any thread. Without a judge, nothing is ended.
        """
        if judge is None:
            yield
            return
        key = object()
        with self._lock:
            self._held[key] = (judge, end)
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(key, None)

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await pause()
            self.look()

    def look(self) -> None:
        """Ends every connection whose peer is no longer accepted."""
        with self._lock:
            held = list(self._held.items())
        for key, (judge, end) in held:
            try:
                judge()
            except SwarmError as refusal:
                with self._lock:
                    self._held.pop(key, None)
                # A peer with a new certificate reconnects; one without logs its own warning.
                say = _log.info if isinstance(refusal, EXPIRED) else _log.warning
                say("ended a connection", why=str(refusal))
                end(refusal)


async def pause() -> None:
    """Waits until the next look."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(organizations.LOOK_EVERY_S):
            await asyncio.Event().wait()
