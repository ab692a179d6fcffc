"""What an SN and its license servers tell each other about swarms: who else leases there, and who was expelled."""

import asyncio
import contextlib
from collections.abc import Sequence

from services.errors import LicenseServerUnreachable, SwarmError
from services.identity.identity import Identity
from services.licensing import expulsions
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
        self._refusal = ""

    async def watch(self, license_servers: list[str], identity: Identity, feature: str) -> None:
        """Runs until cancelled. A license server that does not answer is no error here: the lease reports that.

        Reports expulsions at once, and again and again: there may be another license server now.
        """
        servers, expelled = Servers(license_servers, identity), identity.credentials.trust.expulsions
        try:
            while True:
                members = expelled.members
                await self._report(servers, feature, members)
                try:
                    for swarm in await told(servers, feature, self._network, self._address):
                        self._tell(swarm)
                except SwarmError as error:
                    _log.debug("other swarms are not known", why=str(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SAID_EVERY_S):
                        while expelled.members == members:
                            await expelled.changed.wait()
        finally:
            await servers.close()

    async def _report(self, servers: Servers, feature: str, members: Sequence[tuple[str, str]]) -> None:
        try:
            await expulsions.report(servers, feature, members)
            self._refusal = ""
        except LicenseServerUnreachable as error:
            _log.debug("the license server does not hear of expulsions", why=str(error))
        except SwarmError as error:
            if str(error) != self._refusal:
                _log.warning("the license server does not hear of expulsions", why=str(error))
            self._refusal = str(error)

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
