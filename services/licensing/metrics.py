"""What a node measures about itself, for Prometheus: its license, and the end of its certificate."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial

from services.identity.expiry import watched_expiry
from services.identity.identity import Identity
from services.identity.peer_context import judge
from services.licensing.lease import LEASE_STATES, Lease
from services.runtime.metrics import Meter, served


@contextlib.asynccontextmanager
async def measured(
    identity: Identity, lease: Lease, host: str, port: int | None
) -> AsyncIterator[tuple[Meter, dict[str, int]]]:
    """Serves the node's metrics while the block runs; yields their meter, and what ``served`` yields.

    ``port``: None if metrics are off. Raises PortInUse, SettingsError.
    """
    meter = Meter(on=port is not None)
    measure_lease(lease, meter)
    tls = partial(identity.server_context, strict=True)
    async with (
        watched_expiry(identity, meter),
        served(meter, identity.role, host, port, tls, judge=judge) as scraped,
    ):
        yield meter, scraped


def measure_lease(lease: Lease, meter: Meter) -> None:
    """From now on, a scrape shows whether the license is held."""
    states = meter.gauge("swarm_lease_state", "1 for the state that the license is in.", ["state"])
    grace = meter.gauge("swarm_lease_grace_left_seconds", "How long it goes on without a license server.")

    def read() -> None:
        for state in LEASE_STATES:
            states.set(lease.state == state, state=state)
        grace.set(lease.grace_left_s)

    meter.read_at_scrape(read)
