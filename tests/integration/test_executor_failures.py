"""Container engines that are missing, not permitted, gone in the middle, or out of disk: one sentence each."""

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_daemon import docker_daemon

from services.errors import (
    ExecutorError,
    NotSupported,
    RuntimeAbsent,
    RuntimeDiskFull,
    RuntimeForbidden,
    RuntimeGone,
)
from services.swop.executors.base import Executor
from services.swop.executors.docker import DockerExecutor
from services.swop.executors.podman import PodmanExecutor
from services.swop.executors.spec import BuildSpec, Devices, NodeSpec, VolumeSpec

BOTH = pytest.mark.parametrize("kind", [DockerExecutor, PodmanExecutor])
NOBODY = 65534


async def failure(executor: Executor, kind: type[ExecutorError]) -> str:
    async with executor:
        with pytest.raises(kind) as raised:
            await executor.describe()
    said = str(raised.value)
    assert "\n" not in said
    return said


@BOTH
async def test_without_a_socket_it_says_how_to_get_one(kind, tmp_path: Path) -> None:
    said = await failure(kind(f"unix://{tmp_path}/no.sock"), RuntimeAbsent)
    title = kind.engine.title
    assert said.startswith(f"{title} does not answer at unix://{tmp_path}/no.sock: there is no such socket.")
    assert f"apt install {title.lower()}" in said and kind.engine.address_variable in said


@BOTH
async def test_a_socket_that_nobody_listens_on(kind, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left.sock"))
    assert "nobody listens there" in await failure(kind(f"unix://{tmp_path}/left.sock"), RuntimeAbsent)


@BOTH
async def test_a_socket_that_it_may_not_open(kind, tmp_path: Path) -> None:
    with closed_socket() as path, as_nobody() as uid:
        said = await failure(kind(f"unix://{path}"), RuntimeForbidden)
    assert said.startswith(f"User {uid} may not use {kind.engine.title}")


@contextlib.contextmanager
def closed_socket() -> Iterator[Path]:
    """A socket in a directory that others may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as closed:
        path = Path(name) / "closed.sock"
        closed.bind(str(path))
        closed.listen()
        path.chmod(0)
        Path(name).chmod(0o755)
        yield path


@contextlib.contextmanager
def as_nobody() -> Iterator[int]:
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield os.geteuid()
    finally:
        os.seteuid(before)


@BOTH
@pytest.mark.parametrize("address", ["tcp://10.0.0.1:2375", "ssh://root@host", "nonsense"])
def test_an_engine_of_another_host_is_refused(kind, address: str) -> None:
    with pytest.raises(NotSupported, match=r"only a socket of this host \(unix:///path\) is used"):
        kind(address)


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"SSH-2.0-OpenSSH_9.2\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{x}", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"],
)  # fmt: skip
async def test_something_else_answers(tmp_path: Path, answer: bytes) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(answers, tmp_path / "other.sock"):
        said = await failure(DockerExecutor(f"unix://{tmp_path}/other.sock"), RuntimeGone)
    assert "stopped answering while it was asked for its version" in said


@pytest.mark.needs("docker")
async def test_a_daemon_that_stops_in_the_middle_ends_what_was_awaited(tmp_path: Path) -> None:
    async with docker_daemon(disk_mib=256) as daemon, DockerExecutor(daemon.address) as executor:
        image = await empty_image(executor, tmp_path)
        spec = NodeSpec("created", image, entrypoint=("x",))
        made = await executor.create(spec, {"Image": image, "Cmd": ["x"]})
        waiting = asyncio.create_task(executor.wait(made["Id"]))
        await asyncio.wait({waiting}, timeout=0.2)
        building = executor.build(BuildSpec("never", (f"FROM {image}",)))
        await daemon.kill()
        with contextlib.suppress(ExecutorError):
            await waiting
        for asked in (executor.describe(), executor.find({}), executor.find_volumes({}), anext(building)):
            with pytest.raises((RuntimeGone, RuntimeAbsent)) as raised:
                await asked
            assert "\n" not in str(raised.value)


@pytest.mark.needs("docker")
async def test_a_full_disk_is_named(tmp_path: Path) -> None:
    async with docker_daemon(disk_mib=64) as daemon, DockerExecutor(daemon.address) as executor:
        image = await empty_image(executor, tmp_path)
        (tmp_path / "context").mkdir()
        with (tmp_path / "context" / "big").open("wb") as file:
            file.truncate(30 * 1024**2)
        await executor.create_volume(VolumeSpec("context"))
        await executor.import_volume("context", tmp_path / "context")
        spec = BuildSpec("outcome", (f"FROM {image}", "COPY big /big"), context_volume="context")
        with pytest.raises(RuntimeDiskFull) as raised:
            _ = [line async for line in executor.build(spec)]
        assert "is full; it failed to build outcome" in str(raised.value)
        with (tmp_path / "context" / "big").open("wb") as file:
            file.truncate(100 * 1024**2)
        with pytest.raises(RuntimeDiskFull, match="fill the volume context"):
            await executor.import_volume("context", tmp_path / "context")


async def empty_image(executor: DockerExecutor, directory: Path) -> str:
    """The empty image by which volumes are read and written; nothing is pulled."""
    empty = directory / "empty"
    empty.mkdir()
    await executor.create_volume(VolumeSpec("first"))
    await executor.import_volume("first", empty)
    return "swop-carrier"


@pytest.mark.needs("docker")
async def test_gpus_that_the_engine_does_not_have() -> None:
    from parts import BASE_IMAGE

    async with DockerExecutor() as executor:
        for gpus in ("all", "device=0"):
            with pytest.raises(NotSupported, match="The executor DOCKER has no gpus"):
                await executor.start(
                    NodeSpec("test-gpus", BASE_IMAGE, entrypoint=("true",), command=(), devices=Devices(gpus=gpus))
                )
        for gpus in ("device=", "-1", "0", "some"):
            with pytest.raises(NotSupported, match="write all, a number, or device=0,2"):
                await executor.start(NodeSpec("test-gpus", BASE_IMAGE, devices=Devices(gpus=gpus)))
