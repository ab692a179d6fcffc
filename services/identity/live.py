"""What goes on for long: it ends once whoever is at the other end is not accepted any more."""

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
    """``held`` while something goes on; ``run`` looks at all of it again and again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[object, tuple[Judge, End]] = {}

    @contextlib.contextmanager
    def held(self, judge: Judge | None, end: End) -> Iterator[None]:
        """``judge`` raises a SwarmError, which says why, where it is to end; ``end`` is called once, in the event loop.

        From any thread. Without a judge it goes on.
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
        """Until it is cancelled."""
        while True:
            await pause()
            self.look()

    def look(self) -> None:
        """Ends whatever is to end now."""
        with self._lock:
            held = list(self._held.items())
        for key, (judge, end) in held:
            try:
                judge()
            except SwarmError as refusal:
                with self._lock:
                    self._held.pop(key, None)
                # Whoever has a new certificate connects anew; one that has none warns itself.
                say = _log.info if isinstance(refusal, EXPIRED) else _log.warning
                say("ended a connection", why=str(refusal))
                end(refusal)


async def pause() -> None:
    """Until the next look."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(organizations.LOOK_EVERY_S):
            await asyncio.Event().wait()
