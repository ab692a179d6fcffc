"""Warns before the certificate of a running node ends: in the log and by a metric."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from services.identity.certificates import read_chain
from services.identity.identity import Identity
from services.runtime import logs
from services.runtime.background import Background
from services.runtime.metrics import Meter

WARN_DAYS: tuple[int, ...] = (30, 7, 1)
LOOK_EVERY_S = 600.0

_log = logs.get("identity")


@contextlib.asynccontextmanager
async def watched_expiry(identity: Identity, meter: Meter) -> AsyncIterator[None]:
    """Inside this context, log and metrics tell when the certificate of this process ends."""
    name, meaning = "swarm_certificate_end_timestamp_seconds", "When this node's certificate ends, since 1970, UTC."
    watch = _ExpiryWatch(identity, meter.gauge(name, meaning))
    watch.renewed()
    if identity.renewal is not None:
        identity.renewal.followers.add(watch)
    try:
        yield
    finally:
        await watch.background.close()


class _ExpiryWatch:
    """Watches the current certificate; after a renewal, the new one."""

    def __init__(self, identity: Identity, gauge: Any) -> None:
        self.background = Background("identity")
        self._identity = identity
        self._gauge = gauge
        self._task: asyncio.Task[None] | None = None

    def renewed(self) -> None:
        if self._task is not None:
            self._task.cancel()
        chain = read_chain(self._identity.credentials.cert)
        ends = min(one.not_valid_after_utc for one in chain)
        self._gauge.set(ends.timestamp())
        warn = warn_until(ends, self._identity, lasts=ends - chain[0].not_valid_before_utc)
        self._task = self.background.run(warn, "watching the end of the certificate")


async def warn_until(
    ends: datetime,
    identity: Identity,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    pause: Callable[[float], Awaitable[object]] | None = None,
    lasts: timedelta = timedelta.max,
) -> None:
    """Warns once for each of ``WARN_DAYS`` before the end, and once when it comes; then returns.

    ``lasts``: how long the certificate is valid in all. One that is renewed automatically is normally replaced before
    the last quarter of that time, so warnings begin there.
    """
    warned: int | None = None
    days_before, file = WARN_DAYS, str(identity.cert)
    soon = "the certificate ends soon: put a new one in its place in time"
    if identity.known_by_id:
        days_before = tuple(days for days in WARN_DAYS if timedelta(days=days) < lasts / 4)
        file, soon = identity.trust.source, "the certificate ends soon, and no new one has come"
    while (left := ends - now()) > timedelta():
        stage = min((days for days in days_before if left <= timedelta(days=days)), default=None)
        if stage != warned:
            warned = stage
            _log.warning(soon, ends=f"{ends:%Y-%m-%d %H:%M} UTC", days_left=left.days, file=file)
        await (pause or asyncio.sleep)(min(LOOK_EVERY_S, left.total_seconds()))
    words = "the certificate has expired: no other node accepts this one until a new one is in its place"
    _log.error(words, ended=f"{ends:%Y-%m-%d %H:%M} UTC", file=file)
