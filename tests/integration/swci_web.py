"""An SWCI's REST API in this process, over mutual TLS, in front of a real SN on the embedded chain."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sl_swarm import Ready
from sn_swarm import running_sn

from services.sn.node import RunningSN
from services.swci.contexts import SnContext, SnContexts
from services.swci.session import CommandSession, WaitLimits
from services.swci.settings import SWCISettings
from services.swci.usr_dir import UsrDir
from services.swci.web.serving import serve

HOST = "127.0.0.1"
WITHIN_S = 60.0


@dataclass
class Web:
    """``first``: the session that all sessions of programs begin as; its usr-dir is ``usr``."""

    pki: Any
    sn: RunningSN
    port: int
    usr: Path
    first: CommandSession
    serving: "asyncio.Task[None]"

    async def stop(self) -> None:
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)

    @property
    def base_url(self) -> str:
        return f"https://localhost:{self.port}"

    def raw(self, role: str = "swci", name: str = "swci-2") -> httpx.AsyncClient:
        """Sends any request with this certificate."""
        context = self.pki.identity(role, name).client_context()
        return httpx.AsyncClient(base_url=self.base_url, verify=context, timeout=WITHIN_S, trust_env=False)

    def options(self, role: str = "swci", name: str = "swci-2", pki: Any = None) -> dict[str, Any]:
        """The options of an /api/v1 client with a certificate of this PKI."""
        files = (pki or self.pki).issue(role, name)
        return {"host": "localhost", "port": self.port, "cert": files.cert, "key": files.key, "cacert": self.pki.cacert}


@contextlib.asynccontextmanager
async def swci_web(
    pki: Any, directory: Path, *, sn_stack: contextlib.AsyncExitStack | None = None
) -> AsyncIterator[Web]:
    """``sn_stack``: closing it ends the SN before the SWCI."""
    async with contextlib.AsyncExitStack() as ours:
        sn = await (sn_stack or ours).enter_async_context(running_sn(pki.identity("sn", "sn-1"), directory / "sn"))
        usr = directory / "usr"
        usr.mkdir()
        contexts = SnContexts()
        contexts.add(SnContext("default", HOST, sn.port, "", f"localhost:{sn.port}"))
        first = CommandSession(pki.identity("swci", "swci-1"), UsrDir(usr), WaitLimits(), contexts)
        settings = SWCISettings.load("swci", {**_files(pki), "host": HOST, "web_port": 0, "usr_dir": usr})
        ready = Ready()
        serving = asyncio.create_task(serve(settings, pki.identity("swci", "swci-1"), first, ready))  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(WITHIN_S):
                await ready.reported.wait()
            yield Web(pki, sn, ready.facts["port"], usr, first, serving)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await first.close()


def _files(pki: Any) -> dict[str, Path]:
    files = pki.issue("swci", "swci-1")
    return {"cert": files.cert, "key": files.key, "cacert": files.cacert}
