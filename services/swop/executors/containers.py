"""The executor for container engines: what Docker and Podman have in common."""

import asyncio
import contextlib
import math
import secrets
import tempfile
from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from services.errors import ImageMissing, NodeUnknown, ProgramMissing, SwarmError, VolumeEmpty
from services.swop.executors import archive, refusals, registry_auth
from services.swop.executors.base import TAIL_BYTES, TAIL_LINES, Executor, carries, last_lines
from services.swop.executors.building import BuildOutput, pull_failed, pulled
from services.swop.executors.container_config import build_query, container_of, image_of, node_of, program_places
from services.swop.executors.container_volumes import ContainerVolumes, filters
from services.swop.executors.engine import Engine, address_of
from services.swop.executors.engine_api import EngineApi, Refusal
from services.swop.executors.log_frames import LogEnd
from services.swop.executors.spec import (
    BuildSpec,
    Image,
    NodeSpec,
    PullSpec,
    Runtime,
    StartedProgram,
    Volume,
    VolumeSpec,
)

HELD_IN_MEMORY_BYTES = 4 * 1024**2


class ContainerExecutor(Executor):
    """A container engine, reached by its socket. ``address``: ``unix:///path``; None: the engine's usual one."""

    engine: ClassVar[Engine]
    shares_host_network = False
    builds_images = True

    def __init__(self, address: str | None = None) -> None:
        self.api = EngineApi(self.engine, address or address_of(self.engine))
        self.volumes = ContainerVolumes(self.api)

    async def describe(self) -> Runtime:
        said = await self.api.negotiate()
        return Runtime(kind=self.kind, version=str(said.get("Version")), address=self.api.address)

    async def close(self) -> None:
        await self.api.close()

    async def host_path(self, path: str) -> str:
        return (await self.volumes.own_mounts()).place(path).path

    # --- nodes --------------------------------------------------------------------------------------

    async def start(self, spec: NodeSpec) -> StartedProgram:
        image = await self.image(spec.image)
        mounts = [await self.volumes.mounted(mount) for mount in spec.mounts]
        node_id: str | None = None
        try:
            made = await self.create(spec, container_of(spec, image.name, mounts, self.host_config(spec), self.kind))
            node_id = made["Id"]
            await self._expect_program(made["Id"], spec)
            await self.api.json("POST", f"/containers/{node_id}/start", doing=f"while {spec.name} was started")
        except Refusal as refusal:
            if node_id is not None:
                await self.remove(node_id)
            raise refusals.of_start(self.engine, spec, refusal.status, refusal.message) from None
        except SwarmError:
            if node_id is not None:
                with contextlib.suppress(SwarmError):
                    await self.remove(node_id)
            raise
        return await self.node(made["Id"])

    async def node(self, node_id: str) -> StartedProgram:
        return node_of(await self._of_node("GET", node_id, "json", f"show {node_id}"))

    async def find(self, labels: Mapping[str, str]) -> list[StartedProgram]:
        query = {"all": "true", "filters": filters(labels)}
        listed = await self._json("GET", "/containers/json", doing="list its nodes", query=query)
        shown = await asyncio.gather(*(self._still(entry["Id"]) for entry in listed))
        found = [node for node in shown if node is not None and carries(node.labels, labels)]
        return sorted(found, key=lambda node: (node.started_at is None, node.started_at, node.name))

    async def wait(self, node_id: str) -> StartedProgram:
        await self._of_node("POST", node_id, "wait", f"wait for {node_id}", unbounded=True)
        return await self.node(node_id)

    async def tail(self, node_id: str, lines: int = TAIL_LINES, limit_bytes: int = TAIL_BYTES) -> list[str]:
        end = LogEnd(limit_bytes)
        query = {"stdout": "true", "stderr": "true", "tail": self.log_tail(lines)}
        pieces = self.api.pieces(f"/containers/{node_id}/logs", doing=f"while a log was read: {node_id}", query=query)
        try:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    end.feed(piece)
        except Refusal as refusal:
            raise self._refused_of_node(node_id, f"show the log of {node_id}", refusal) from None
        return last_lines(bytes(end.output), lines, limit_bytes)

    async def stop(self, node_id: str, grace_s: float) -> StartedProgram:
        seconds = {"t": str(math.ceil(grace_s))}
        await self._of_node("POST", node_id, "stop", f"stop {node_id}", query=seconds, unbounded=True)
        return await self.node(node_id)

    async def remove(self, node_id: str) -> None:
        query = {"force": "true", "v": "true"}
        try:
            await self.api.json("DELETE", f"/containers/{node_id}", doing=f"while {node_id} was removed", query=query)
        except Refusal as refusal:
            if refusal.status == 409:  # already being removed
                query = {"condition": "removed"}
                with contextlib.suppress(NodeUnknown):
                    await self._of_node("POST", node_id, "wait", f"remove {node_id}", query=query, unbounded=True)
            elif refusal.status != 404:
                raise refusals.of(self.engine, f"remove {node_id}", refusal.message) from None

    async def create(self, spec: NodeSpec, body: Any) -> Any:
        """Makes a container that does not run yet. Raises Refusal."""
        doing, query = f"while {spec.name} was made", {"name": spec.name}
        return await self.api.json("POST", "/containers/create", doing=doing, query=query, body=body)

    def log_tail(self, lines: int) -> str:
        """How many lines of a log to ask for."""
        return str(lines)

    @abstractmethod
    def host_config(self, spec: NodeSpec) -> dict[str, Any]:
        """What differs in HostConfig between engines: an init, and GPUs."""

    # --- volumes ------------------------------------------------------------------------------------

    async def create_volume(self, spec: VolumeSpec) -> Volume:
        return await self.volumes.create(spec)

    async def find_volumes(self, labels: Mapping[str, str]) -> list[Volume]:
        return await self.volumes.find(labels)

    async def remove_volume(self, name: str) -> None:
        await self.volumes.remove(name)

    async def import_volume(self, name: str, directory: Path) -> None:
        with self._spooled() as content:
            await asyncio.to_thread(archive.packed, directory, content)
            content.seek(0)
            await self.volumes.write(name, content)

    # --- images -------------------------------------------------------------------------------------

    async def image(self, name: str) -> Image:
        try:
            said = await self.api.json("GET", f"/images/{name}/json", doing=f"while {name} was looked for")
        except Refusal as refusal:
            if refusal.status == 404:
                raise ImageMissing(image=name) from None
            raise refusals.of(self.engine, f"find the image {name}", refusal.message) from None
        return image_of(name, said)

    async def build(self, spec: BuildSpec) -> AsyncGenerator[str, None]:
        dockerfile = f".dockerfile-{secrets.token_hex(8)}"
        output = BuildOutput(self.engine, spec)
        with self._spooled() as content:
            await self._build_context(spec, content, dockerfile)
            said = self.api.lines(
                "/build",
                doing=f"while {spec.image} was built",
                query=build_query(spec, dockerfile),
                upload=content,
            )
            try:
                async with contextlib.aclosing(said):
                    async for message in said:
                        for line in output.heard(message):
                            yield line
            except Refusal as refusal:
                raise output.failed(refusal.message) from None

    async def pull(self, spec: PullSpec) -> AsyncGenerator[str, None]:
        name = f"{spec.repository}:{spec.tag}"
        headers = {}
        if spec.auth_file is not None:
            headers["X-Registry-Auth"] = registry_auth.auth_header(spec.auth_file, spec.repository)
        query = {"fromImage": spec.repository, "tag": spec.tag}
        said = self.api.lines("/images/create", doing=f"while {name} was pulled", query=query, headers=headers)
        try:
            async with contextlib.aclosing(said):
                async for message in said:
                    if line := pulled(self.engine, name, message):
                        yield line
        except Refusal as refusal:
            raise pull_failed(self.engine, name, refusal.message) from None

    async def remove_image(self, name: str) -> None:
        try:
            await self.api.json("DELETE", f"/images/{name}", doing=f"while {name} was removed")
        except Refusal as refusal:
            if refusal.status != 404:
                raise refusals.of(self.engine, f"remove the image {name}", refusal.message) from None

    # --- how it is done -----------------------------------------------------------------------------

    async def _build_context(self, spec: BuildSpec, content: BinaryIO, dockerfile: str) -> None:
        """Writes the archive that a build begins with to ``content``, and rewinds it."""
        text = "\n".join(spec.steps).encode() + b"\n"
        with self._spooled() as volume:
            given = None
            if spec.context_volume is not None:
                await self.volumes.read(spec.context_volume, volume, spec.context_limit_bytes)
                given = volume
            copied = await asyncio.to_thread(archive.build_context, given, content, dockerfile, text)
            if spec.context_volume is not None and not copied:
                raise VolumeEmpty(volume=spec.context_volume)
        content.seek(0)

    @staticmethod
    def _spooled() -> Any:
        return tempfile.SpooledTemporaryFile(max_size=HELD_IN_MEMORY_BYTES)

    async def _expect_program(self, node_id: str, spec: NodeSpec) -> None:
        """Checks that the program exists, as an init starts even without it. Raises ProgramMissing."""
        doing = f"while {spec.name} was started"
        made = await self.api.json("GET", f"/containers/{node_id}/json", doing=doing)
        config = made["Config"]
        words = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
        if not words:
            raise ProgramMissing(image=spec.image, program="anything", problem="it names no program, nor does the task")
        places = program_places(words[0], config.get("Env") or (), config.get("WorkingDir") or "/")
        for place in places:
            if await self.api.exists(f"/containers/{node_id}/archive", doing=doing, query={"path": place}):
                return
        raise ProgramMissing(image=spec.image, program=words[0], problem="there is no such program in it")

    async def _still(self, node_id: str) -> StartedProgram | None:
        """A node that was listed; None if it has been removed since."""
        try:
            return await self.node(node_id)
        except NodeUnknown:
            return None

    async def _json(self, method: str, path: str, *, doing: str, query: Mapping[str, str] | None = None) -> Any:
        try:
            return await self.api.json(method, path, doing=f"while it was asked to {doing}", query=query)
        except Refusal as refusal:
            raise refusals.of(self.engine, doing, refusal.message) from None

    async def _of_node(
        self, method: str, node_id: str, what: str, doing: str, *, query: Mapping[str, str] | None = None,
        unbounded: bool = False,
    ) -> Any:  # fmt: skip
        path = f"/containers/{node_id}/{what}"
        try:
            return await self.api.json(
                method, path, doing=f"while it was asked to {doing}", query=query, unbounded=unbounded
            )
        except Refusal as refusal:
            raise self._refused_of_node(node_id, doing, refusal) from None

    def _refused_of_node(self, node_id: str, doing: str, refusal: Refusal) -> SwarmError:
        return refusals.of_node(self.engine, doing, node_id, refusal.status, refusal.message)
