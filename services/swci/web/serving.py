"""Opens port 30306 and serves until the node ends."""

import asyncio

from services.identity.identity import Identity
from services.runtime import logs
from services.runtime.listening import listen
from services.runtime.ready import ReadySocket
from services.swci.session import CommandSession
from services.swci.settings import SWCISettings
from services.swci.web.app import build
from services.swci.web.sessions import Sessions
from services.web.server import NodeServer

KEEP_ALIVE_S = 75
# Enough for the longest command in a URL, where one character may take twelve bytes.
HEAD_LIMIT_BYTES = 256 * 1024

_log = logs.get("swci")


async def serve(settings: SWCISettings, identity: Identity, first: CommandSession, ready: ReadySocket) -> None:
    """Runs until cancelled. Raises PortInUse, SettingsError."""
    sessions, stop = Sessions(first), asyncio.Event()
    with listen(settings.host, settings.web_port, command="swci", port_option="--web-port") as listening:
        port = int(listening.getsockname()[1])

        def started() -> None:
            _log.info(f"SWCI is ready on port: {port}")
            ready.report(port=port)

        server = NodeServer(
            build(sessions, stop), identity.server_context(), stop, started,
            keep_alive_s=KEEP_ALIVE_S, head_limit_bytes=HEAD_LIMIT_BYTES,
        )  # fmt: skip
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await asyncio.shield(serving)
        finally:
            stop.set()
            await serving
            await sessions.close()
