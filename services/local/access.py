"""How to reach the SN and the license server of a running local swarm."""

from pathlib import Path

from services.errors import NotRunning
from services.identity.identity import Identity
from services.local.certificates import admin_identity
from services.local.plan import ADMIN, HOST, LICENSE_SERVER
from services.local.state import SwarmState


def sn_of(directory: Path) -> tuple[str, Identity]:
    """Address of the SN and the administrator's identity. Raises NotRunning, IdentityError."""
    state = SwarmState.read(directory)
    if not state.sn_address:
        raise NotRunning(dir=directory)
    return state.sn_address, admin_identity(directory, ADMIN)


def license_server_of(directory: Path) -> tuple[str, Identity]:
    """Address of the license server, and the administrator's identity. Raises NotRunning."""
    state = SwarmState.read(directory)
    for process in state.processes:
        if process.name == LICENSE_SERVER and process.alive and process.port:
            return f"{HOST}:{process.port}", admin_identity(directory, ADMIN)
    raise NotRunning(dir=directory)
