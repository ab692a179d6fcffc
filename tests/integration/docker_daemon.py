"""A Docker Engine for one test, which may stop it or fill its disk. Needs root."""

import asyncio
import contextlib
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from services.local.process import Child, Launch, program_environment

READY_WITHIN_S = 60


class DockerDaemon:
    def __init__(self, directory: Path, child: Child) -> None:
        self.address = f"unix://{directory / 'docker.sock'}"
        self._child = child

    async def kill(self) -> None:
        self._child.kill()
        await self._child.wait()


@contextlib.asynccontextmanager
async def docker_daemon(disk_mib: int) -> AsyncIterator[DockerDaemon]:
    """An engine with its data on a disk of this size, in its own network namespace, where it can disturb nobody."""
    with tempfile.TemporaryDirectory(prefix="dk-") as name:  # pytest's path is too long for its sockets
        async with _running(Path(name), disk_mib) as daemon:
            yield daemon


@contextlib.asynccontextmanager
async def _running(directory: Path, disk_mib: int) -> AsyncIterator[DockerDaemon]:
    data = directory / "data"
    data.mkdir(parents=True)
    await run("mount", "-t", "tmpfs", "-o", f"size={disk_mib}m", "tmpfs", str(data))
    try:
        argv = (
            "unshare", "--net", "dockerd", "--data-root", str(data), "--exec-root", str(directory / "run"),
            "--pidfile", str(directory / "pid"), "--host", f"unix://{directory / 'docker.sock'}",
            "--bridge", "none", "--iptables=false",
        )  # fmt: skip
        child = Child.start(Launch("dockerd", argv, directory / "log", program_environment(), is_node=False))
        try:
            daemon = DockerDaemon(directory, child)
            await _ready(daemon, child)
            yield daemon
        finally:
            await child.stop()
    finally:
        await run("umount", "--lazy", str(data))


async def run(*words: str) -> None:
    assert await (await asyncio.create_subprocess_exec(*words)).wait() == 0, words


async def _ready(daemon: DockerDaemon, child: Child) -> None:
    async with asyncio.timeout(READY_WITHIN_S):
        while True:
            asks = await asyncio.create_subprocess_exec(
                "docker", "--host", daemon.address, "info", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if await asks.wait() == 0:
                return
            assert not child.exited.done(), child.tail()
