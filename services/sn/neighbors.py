"""Reports other swarms under the same license server: so whoever starts two sentinels for one swarm finds out."""

import asyncio

from services.errors import SwarmError
from services.identity.identity import Identity
from services.licensing.servers import Servers
from services.licensing.swarms import SAID_EVERY_S, LeasingSwarm, told
from services.runtime import logs

_log = logs.get("sn")


class Neighbors:
    """``network``: address of this swarm's directory contract. ``address``: where others reach this SN."""

    def __init__(self, network: str, address: str) -> None:
        self._network = network
        self._address = address
        self._known: set[str] = set()

    async def watch(self, license_servers: list[str], identity: Identity, feature: str) -> None:
        """Runs until cancelled. A license server that does not answer is no error here: the lease reports that."""
        servers = Servers(license_servers, identity)
        try:
            while True:
                try:
                    for swarm in await told(servers, feature, self._network, self._address):
                        self._tell(swarm)
                except SwarmError as error:
                    _log.debug("other swarms are not known", why=str(error))
                await asyncio.sleep(SAID_EVERY_S)
        finally:
            await servers.close()

    def _tell(self, swarm: LeasingSwarm) -> None:
        """Warns once of each swarm. Two swarms may be intended, so this SN continues."""
        if swarm.network in self._known:
            return
        self._known.add(swarm.network)
        _log.warning(
            f"another swarm leases from the same license server, with {swarm.shown}. If the two are to be one, stop "
            f"the SNs of one of them, empty their data directories and start them with --sentinel-ip "
            f"{swarm.sns[0].address}, which joins; --sentinel makes a swarm of its own. If they are apart on purpose, "
            "nothing is to be done"
        )
