"""The threads of a license server: one decides what nodes ask for, one does what time brings."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

from services.errors import SwarmError
from services.license_server.office import Office
from services.license_server.usage import SAMPLE_EVERY_S
from services.runtime import logs

SWEEP_EVERY_S = 2.0
FORGET_EVERY_S = 600.0

_log = logs.get("license-server")


@contextlib.contextmanager
def deciding(office: Office) -> Iterator[None]:
    """Within it, what is asked of the desk is decided as it comes."""
    over = threading.Event()

    def decide() -> None:
        while not over.is_set():
            office.desk.wait()
            while office.desk.work():
                pass

    thread = threading.Thread(target=decide, name="license desk", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        office.desk.wake()
        thread.join()


class Housekeeping:
    """Frees stale seats every two seconds, samples use once a minute, forgets what has expired."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._sampled = self._forgot = float("-inf")

    async def run(self) -> None:
        """Until it is cancelled. A database that fails for a while is told of and tried again."""
        while True:
            try:
                await asyncio.to_thread(self._once)
            except SwarmError as error:
                _log.error("housekeeping failed, trying again", why=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_EVERY_S):
                    await asyncio.Event().wait()

    def _once(self) -> None:
        if not self._office.active:
            return
        self._office.desk.sweep()
        now = time.monotonic()
        if now - self._sampled >= SAMPLE_EVERY_S:
            self._sampled = now
            self._office.usage.sample()
        if now - self._forgot >= FORGET_EVERY_S:
            self._forgot = now
            self._office.accounts.forget_sessions()
