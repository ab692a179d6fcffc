"""Starts a license server and stops it in order."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator

import uvicorn

from services.errors import PortInUse, SettingsError
from services.identity.identity import Identity
from services.license_server.api import build_app
from services.license_server.desk import LicenseDesk
from services.license_server.peer_certificate import PeerCertificateProtocol
from services.license_server.settings import COMMUNITY_SEATS, LicenseServerSettings
from services.license_server.store import Store
from services.runtime import logs
from services.runtime.ready import ReadySocket

GRACEFUL_STOP_S = 2

_log = logs.get("license-server")


async def main(settings: LicenseServerSettings, stop: asyncio.Event, ready: ReadySocket) -> None:
    """Identity → database and licence → port → serves until ``stop``."""
    identity = Identity.load(
        cert=settings.cert,
        key=settings.key,
        cacert=settings.cacert,
        capath=settings.capath,
        expected_role="license",
    )
    logs.configure(settings.log_format, identity.name, settings.log_level)
    with Store(settings.data_dir) as store, _listen(settings.host, settings.port) as listening:
        desk = LicenseDesk(store)
        desk.install_community_licence(COMMUNITY_SEATS, settings.seats)
        port = listening.getsockname()[1]

        def started() -> None:
            _log.info(f"License server ready on port: {port}")
            ready.report(port=port)

        await serve(desk, identity, listening, stop, started)
    _log.info("License server stopped")


async def serve(
    desk: LicenseDesk, identity: Identity, listening: socket.socket, stop: asyncio.Event, started: Callable[[], None]
) -> None:
    """Serves HTTPS until ``stop``; ``started`` is called when it does.

    A client certificate is optional in the handshake, since browsers have none, and demanded by the node API.
    """
    context = identity.server_context(client_certificate="optional")
    config = uvicorn.Config(
        build_app(desk),
        http=PeerCertificateProtocol,
        ssl_context_factory=lambda _config, _default: context,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=GRACEFUL_STOP_S,
    )
    await _Server(config, stop, started).serve(sockets=[listening])


class _Server(uvicorn.Server):
    """uvicorn, but signals are the node's, and it waits for ``stop`` instead of looking ten times a second."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop
        self._on_started = started

    async def main_loop(self) -> None:
        self._on_started()
        await self._stop.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    """Raises PortInUse, or SettingsError for an address that is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(port=port, host=host, option="--port") from None
        problem = f"port {port} cannot be opened on {host} ({error.strerror})"
        raise SettingsError(name="--host or --port", problem=problem, command="license-server") from None
