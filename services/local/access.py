"""How to reach the SN of a local swarm that runs."""

from pathlib import Path

from services.errors import NotRunning
from services.identity.identity import Identity
from services.local.certificates import admin_identity
from services.local.plan import ADMIN
from services.local.state import SwarmState


def sn_of(directory: Path) -> tuple[str, Identity]:
    """Address of the SN and the administrator's identity. Raises NotRunning, IdentityError."""
    state = SwarmState.read(directory)
    if not state.sn_address:
        raise NotRunning(dir=directory)
    return state.sn_address, admin_identity(directory, ADMIN)
