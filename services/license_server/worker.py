"""Background work of a license server: a thread that decides on requests of nodes, and regular housekeeping."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from services.errors import SwarmError
from services.license_server.services import Services
from services.license_server.usage import SAMPLE_EVERY_S
from services.license_server.webhooks import post_over_https, queue_expiries
from services.runtime import logs

SWEEP_EVERY_S = 2.0
DELIVER_EVERY_S = 5.0
FORGET_EVERY_S = 600.0

_log = logs.get("license-server")


@contextlib.contextmanager
def deciding(services: Services) -> Iterator[None]:
    """Within this context, a thread decides on requests to the allocator as they come."""
    over = threading.Event()

    def decide() -> None:
        while not over.is_set():
            services.allocator.wait()
            while services.allocator.work():
                pass

    thread = threading.Thread(target=decide, name="license allocator", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        services.allocator.wake()
        thread.join()


class Housekeeping:
    """Every two seconds, frees stale seats and looks for expulsions that another server has put into the data; samples
    use once a minute; forgets what has expired.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sampled = self._forgot = float("-inf")

    async def run(self) -> None:
        """Runs until cancelled. Database failures are logged, and the work is tried again."""
        await asyncio.gather(_again(self._once, SWEEP_EVERY_S), _again(self._deliver, DELIVER_EVERY_S))

    def _deliver(self) -> None:
        """Separate from the rest: an address that does not answer must not delay the freeing of seats."""
        if self._services.active:
            self._services.webhooks.deliver_due(post_over_https)

    def _once(self) -> None:
        self._services.expulsions.look()
        if not self._services.active:
            return
        self._services.allocator.sweep()
        now = time.monotonic()
        if now - self._sampled >= SAMPLE_EVERY_S:
            self._sampled = now
            self._services.usage.sample()
            with self._services.database.write() as transaction:
                queue_expiries(transaction)
        if now - self._forgot >= FORGET_EVERY_S:
            self._forgot = now
            self._services.accounts.forget_sessions()


async def _again(work: Callable[[], None], every_s: float) -> None:
    while True:
        try:
            await asyncio.to_thread(work)
        except SwarmError as error:
            _log.error("housekeeping failed, trying again", why=str(error))
        await asyncio.sleep(every_s)
