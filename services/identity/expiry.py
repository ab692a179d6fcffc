"""Warns before the certificate of a running node ends: in its log, and by a metric."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

from services.identity.certificates import read_chain
from services.identity.identity import Identity
from services.runtime import logs
from services.runtime.background import Background
from services.runtime.metrics import Meter

WARN_DAYS = (30, 7, 1)
LOOK_EVERY_S = 600.0

_log = logs.get("identity")


@contextlib.asynccontextmanager
async def watched_expiry(identity: Identity, meter: Meter) -> AsyncIterator[None]:
    """Within it, whoever reads log or metrics knows when the certificate that this process started with ends."""
    ends = min(certificate.not_valid_after_utc for certificate in read_chain(identity.cert))
    name, meaning = "swarm_certificate_end_timestamp_seconds", "When this node's certificate ends, since 1970, UTC."
    meter.gauge(name, meaning).set(ends.timestamp())
    background = Background("identity")
    background.run(warn_until(ends, identity), "watching the end of the certificate")
    try:
        yield
    finally:
        await background.close()


async def warn_until(
    ends: datetime,
    identity: Identity,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    pause: Callable[[float], Awaitable[object]] | None = None,
) -> None:
    """Once for each of ``WARN_DAYS`` before the end, and once at it; then it returns."""
    warned: int | None = None
    while (left := ends - now()) > timedelta():
        stage = min((days for days in WARN_DAYS if left <= timedelta(days=days)), default=None)
        if stage != warned:
            warned = stage
            words = "the certificate ends soon: give this node a new one in time, and start it again"
            _log.warning(words, ends=f"{ends:%Y-%m-%d %H:%M} UTC", days_left=left.days, file=str(identity.cert))
        await (pause or _pause)(min(LOOK_EVERY_S, left.total_seconds()))
    words = "the certificate has ended: no other node makes a new connection with this one"
    _log.error(words, ended=f"{ends:%Y-%m-%d %H:%M} UTC", file=str(identity.cert))


async def _pause(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
