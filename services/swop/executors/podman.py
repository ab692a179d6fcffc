"""The executor PODMAN: a Podman service, reached by the socket on which it speaks Docker's API."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from services.errors import ImageMissing, MountMissing, NotSupported, RuntimeRefused
from services.swop.executors.base import TAIL_BYTES, TAIL_LINES
from services.swop.executors.container_config import gpus_of
from services.swop.executors.containers import ContainerExecutor
from services.swop.executors.engine import PODMAN
from services.swop.executors.engine_api import Refusal
from services.swop.executors.registry_auth import has_registry
from services.swop.executors.spec import Image, MountKind, NodeSpec, NodeState, StartedProgram

GPU_DEVICE = "nvidia.com/gpu"  # the name that the Container Device Interface gives to NVIDIA's GPUs
CLEANED_UP_WITHIN_S = 5.0
IN_A_CONTAINER = Path("/run/.containerenv")


class PodmanExecutor(ContainerExecutor):
    kind = "PODMAN"
    engine = PODMAN

    def __init__(self, address: str | None = None) -> None:
        super().__init__(address)
        self._has_init = True

    async def image(self, name: str) -> Image:
        """Tries ``localhost/…`` too, which Podman's own commands use for images built here; its service searches only
        ``docker.io``.
        """
        try:
            return await super().image(name)
        except ImageMissing:
            if has_registry(name) or name.startswith("sha256:"):
                raise
        try:
            return await super().image(f"localhost/{name}")
        except ImageMissing:
            raise ImageMissing(image=name) from None

    async def start(self, spec: NodeSpec) -> StartedProgram:
        """Checks bind sources first, if they can be seen from here: the service would create a missing one."""
        await asyncio.to_thread(_expect_bind_sources, spec)
        return await super().start(spec)

    async def create(self, spec: NodeSpec, body: Any) -> Any:
        try:
            return await super().create(spec, body)
        except Refusal as refusal:
            if not self._has_init or "init binary" not in refusal.message:
                raise
        self._has_init = False  # on Debian, Podman only recommends the package catatonit
        body["HostConfig"]["Init"] = False
        return await super().create(spec, body)

    async def tail(self, node_id: str, lines: int = TAIL_LINES, limit_bytes: int = TAIL_BYTES) -> list[str]:
        """The log of an ended node is complete only when Podman has cleaned up the node, a moment later."""
        if (await self.node(node_id)).state is NodeState.EXITED:
            await self._cleaned_up(node_id)
        return await super().tail(node_id, lines, limit_bytes)

    async def remove(self, node_id: str) -> None:
        """Tries twice: Podman refuses to kill a container that is just ending."""
        try:
            await super().remove(node_id)
        except RuntimeRefused as refused:
            if "could not be stopped" not in str(refused):
                raise
            await self._cleaned_up(node_id)
            await super().remove(node_id)

    async def _cleaned_up(self, node_id: str) -> None:
        """Returns when the clean-up of an ended node is over, or at the latest after CLEANED_UP_WITHIN_S."""
        with contextlib.suppress(Refusal, TimeoutError):
            async with asyncio.timeout(CLEANED_UP_WITHIN_S):
                await self.api.json(
                    "POST", f"/libpod/containers/{node_id}/wait", doing=f"while {node_id} was cleaned up",
                    query={"condition": "exited"}, unbounded=True,
                )  # fmt: skip

    def log_tail(self, lines: int) -> str:
        """If asked for the last lines only, Podman 4.3 loses the beginnings of lines that were written in parts."""
        return "all"

    def host_config(self, spec: NodeSpec) -> dict[str, Any]:
        config: dict[str, Any] = {"Init": self._has_init}
        if spec.devices.gpus:
            count, names = gpus_of(spec.devices.gpus, self.kind)
            if count > 0:
                raise NotSupported(
                    executor=self.kind, option=f"gpus {spec.devices.gpus}", problem="name them: all, or device=0,1"
                )
            wanted = names or ("all",)
            config["Devices"] = [{"PathOnHost": f"{GPU_DEVICE}={name}"} for name in wanted]
        return config


def _expect_bind_sources(spec: NodeSpec) -> None:
    if IN_A_CONTAINER.exists():
        return
    for mount in spec.mounts:
        if mount.kind is MountKind.BIND and not Path(mount.source).exists():
            raise MountMissing(source=mount.source, target=mount.target, problem="no such file or directory")
