"""Starts a license server and stops it in order."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from services.errors import NoSuchThing
from services.identity.expiry import watched_expiry
from services.identity.identity import Identity
from services.identity.renewal import Credentials
from services.identity.renewed_files import IdentityFiles, renewed_files
from services.license_server.actor import SYSTEM
from services.license_server.database import Database
from services.license_server.services import Services
from services.license_server.settings import COMMUNITY_SEATS, LicenseServerSettings, PartnerAddress
from services.license_server.tls import stored
from services.license_server.web import Web
from services.license_server.worker import Housekeeping, deciding
from services.runtime import logs
from services.runtime.listening import listen
from services.runtime.metrics import Meter
from services.runtime.ready import ReadySocket
from services.web.server import NodeServer

KEEP_ALIVE_S = 40  # longer than the time between two renewals of a node, as handshakes are the main cost

if TYPE_CHECKING:
    from services.license_server.partner import Partner

_log = logs.get("license-server")


async def main(settings: LicenseServerSettings, stop: asyncio.Event, ready: ReadySocket) -> None:
    """Identity → database and license → port → serves until ``stop``."""
    given = IdentityFiles.of(settings)
    async with renewed_files(lambda: _shown(settings.data_dir, given), "license") as identity:
        logs.configure(settings.log_format, identity.name, settings.log_level)
        async with watched_expiry(identity, Meter(on=False)):
            await _serve(settings, identity, stop, ready)
    _log.info("License server stopped")


def _shown(data_dir: Path, given: IdentityFiles) -> IdentityFiles:
    """The server's files, with certificate and key that an administrator installed, or else those it was
    started with.
    """
    with contextlib.suppress(NoSuchThing):
        cert, key = stored(data_dir)
        return replace(given, cert=cert, key=key)
    return given


async def _serve(settings: LicenseServerSettings, identity: Identity, stop: asyncio.Event, ready: ReadySocket) -> None:
    loop, renewal = asyncio.get_running_loop(), identity.renewal

    def take(credentials: Credentials) -> None:
        if renewal is not None:
            loop.call_soon_threadsafe(renewal.take, credentials)

    with _open(settings) as database, _listen(settings) as listening:
        services = Services(database)
        partner = await _paired(services, identity, settings)
        port = listening.getsockname()[1]
        if services.active:
            services.licenses.install_community(COMMUNITY_SEATS, settings.seats)
            _log.info("license", **{pool.feature: pool.capacity for pool in services.pools.all(SYSTEM)})
            _offer_setup(services, settings, port)
        trust = {"cacert": settings.cacert, "capath": settings.capath, "trust": settings.trust}
        services.tls.serve(settings.data_dir, identity.cert, take, **trust)

        def started() -> None:
            _log.info(f"License server ready on port: {port}")
            ready.report(port=port)

        await serve(services, identity, listening, stop, started, partner=partner)


async def serve(  # no fewer parameters are possible
    services: Services,
    identity: Identity,
    listening: socket.socket,
    stop: asyncio.Event,
    started: Callable[[], None],
    *,
    partner: "Partner | None" = None,
) -> None:
    """Serves HTTPS until ``stop``; calls ``started`` when it does.

    Client certificates are optional in the handshake, as browsers have none; the node API requires one.
    """
    services.expulsions.guard(identity)
    context = identity.server_context(client_certificate="optional")
    server = NodeServer(Web(services, partner), context, stop, started, keep_alive_s=KEEP_ALIVE_S)
    with deciding(services):
        keeping = [asyncio.create_task(Housekeeping(services).run())]
        if partner is not None:
            keeping.append(asyncio.create_task(partner.run()))
        try:
            await server.serve(sockets=[listening])
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)


def _listen(settings: LicenseServerSettings) -> socket.socket:
    return listen(settings.host, settings.port, command="license-server", port_option="--port")


def _open(settings: LicenseServerSettings) -> Database:
    return Database(settings.database) if settings.database else Database.in_directory(settings.data_dir)


async def _paired(services: Services, identity: Identity, settings: LicenseServerSettings) -> "Partner | None":
    """This server's part in a pair, after deciding whether it begins as the active one; None if it is alone."""
    if not settings.partner:
        return None
    from services.license_server.partner import Partner  # noqa: PLC0415  # loads aiohttp, so only if there is a partner

    address = PartnerAddress.parse(settings.partner)
    partner = Partner(services, identity, address, standby=settings.standby, copies=settings.data_dir)
    await partner.begin()
    return partner


def _offer_setup(services: Services, settings: LicenseServerSettings, port: int) -> None:
    """Logs the setup link if there are no users. It is a secret for whoever started the server."""
    if not services.accounts.needs_setup():
        return
    secret = services.accounts.setup_secret()
    if secret is not None:
        host = "localhost" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
        _log.info(
            "nobody administers this server yet: open the link, once", link=f"https://{host}:{port}/setup/{secret}"
        )
