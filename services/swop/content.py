"""Fills volumes with the downloads and archives of a MAKE_SWARM_USER_CONTENT task."""

import asyncio
import contextlib
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import aiohttp

from services.errors import SwarmError, TaskRefused, VolumeNameInUse
from services.rpc import swarm_pb2 as pb
from services.swop.executors.base import Executor
from services.swop.executors.spec import VolumeSpec
from services.swop.work import AssignmentWork, PeerNews, Tell
from services.tasks.definition import ContentOperation, MakeSwarmUserContent

SIZE_LIMIT_BYTES = 64 * 1024**3
DOWNLOAD_TIMEOUT_S = 3600.0
PIECE_BYTES = 1 << 20


class ContentWork(AssignmentWork):
    """Fills a volume, or one for each pair. ``volumes``: their names. The volumes stay when the task is over."""

    def __init__(self, executor: Executor, body: MakeSwarmUserContent, volumes: Sequence[str]) -> None:
        self._executor = executor
        self._body = body
        self._volumes = volumes

    async def run(self, tell: Tell) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="swop-content-") as name:
                directory = Path(name)
                for operation in self._body.operations:
                    await tell(PeerNews(0, pb.PEER_RUNNING, f"{operation.operation} {operation.target}"))
                    await _perform(operation, directory)
                for volume in self._volumes:
                    with contextlib.suppress(VolumeNameInUse):
                        await self._executor.create_volume(VolumeSpec(volume))
                    await self._executor.import_volume(volume, directory)
        except SwarmError as error:
            await tell(PeerNews(0, pb.PEER_ERROR, str(error)))
        else:
            await tell(PeerNews(0, pb.PEER_COMPLETE, f"Content in {', '.join(self._volumes)}"))


async def _perform(operation: ContentOperation, directory: Path) -> None:
    """Raises TaskRefused, with the reason in words."""
    out = operation.options[0].path if operation.options else ""
    if operation.operation == "DOWNLOAD":
        await _download(operation.target, _below(directory, out or operation.target.rpartition("/")[2]))
    else:
        source, target = _below(directory, operation.target), _below(directory, out or ".")
        await asyncio.to_thread(_extract, source, target, operation.target)


async def _download(url: str, target: Path) -> None:
    if not url.startswith(("https://", "http://")):
        raise _refused(url, "only http and https addresses can be downloaded")
    target.parent.mkdir(parents=True, exist_ok=True)
    timeout = aiohttp.ClientTimeout(total=DOWNLOAD_TIMEOUT_S, sock_read=60)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(url) as answer:
            if answer.status != 200:
                raise _refused(url, f"the server answered {answer.status} {answer.reason}")
            size = 0
            with target.open("wb") as file:
                async for piece in answer.content.iter_chunked(PIECE_BYTES):
                    size += len(piece)
                    if size > SIZE_LIMIT_BYTES:
                        raise _refused(url, f"it is larger than {SIZE_LIMIT_BYTES:,} bytes")
                    file.write(piece)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _refused(url, str(error) or type(error).__name__) from None


def _extract(source: Path, target: Path, name: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > SIZE_LIMIT_BYTES:
                    raise _refused(name, f"it unpacks to more than {SIZE_LIMIT_BYTES:,} bytes")
                archive.extractall(target)  # noqa: S202 - zipfile leads no entry out of its target
        else:
            with tarfile.open(source) as tar:
                tar.extractall(target, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError) as error:
        raise _refused(name, str(error)) from None
    if shutil.disk_usage(target).free < PIECE_BYTES:
        raise _refused(name, "the disk is full")


def _below(directory: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not name or ".." in parts or PurePosixPath(name).is_absolute():
        raise _refused(name or "''", "a path below the volume, without '..', is needed")
    return directory.joinpath(*parts)


def _refused(what: str, problem: str) -> TaskRefused:
    return TaskRefused(task=f"The content {what}", problem=problem)
