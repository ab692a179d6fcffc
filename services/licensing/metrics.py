"""What every node measures about its license, for Prometheus."""

from services.licensing.lease import LEASE_STATES, Lease
from services.runtime.metrics import Meter


def measure_lease(lease: Lease, meter: Meter) -> None:
    """From now on, a scrape shows whether the license is held."""
    states = meter.gauge("swarm_lease_state", "1 for the state that the license is in.", ["state"])
    grace = meter.gauge("swarm_lease_grace_left_seconds", "How long it goes on without a license server.")

    def read() -> None:
        for state in LEASE_STATES:
            states.set(lease.state == state, state=state)
        grace.set(lease.grace_left_s)

    meter.read_at_scrape(read)
