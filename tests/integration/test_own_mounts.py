"""Paths that a SWOP in a container sees are found on its host, with a real Docker and a real Podman."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from parts import BASE_IMAGE

from services.swop.executors import container_volumes
from services.swop.executors.base import Executor
from services.swop.executors.docker import DockerExecutor
from services.swop.executors.own_mounts import container_of
from services.swop.executors.podman import PodmanExecutor
from services.swop.executors.spec import Mount, MountKind, NodeSpec, VolumeSpec

RUN = f"test-{secrets.token_hex(4)}"
LABELS = {"swarm.swop": RUN}
TELL = "print(open('/proc/self/mountinfo').read())"
READ = "print(open('/of-host/word').read(), open('/of-volume/word').read())"


@pytest.fixture(params=[pytest.param(DockerExecutor, marks=pytest.mark.needs("docker")),
                        pytest.param(PodmanExecutor, marks=pytest.mark.needs("podman"))])  # fmt: skip
async def executor(request: pytest.FixtureRequest) -> AsyncIterator[Executor]:
    async with request.param() as executor:
        yield executor
        for node in await executor.find(LABELS):
            await executor.remove(node.id)
        for volume in await executor.find_volumes(LABELS):
            await executor.remove_volume(volume.name)


def node(number: int, program: str, *mounts: Mount) -> NodeSpec:
    return NodeSpec(
        name=f"{RUN}-{number}", image=BASE_IMAGE, entrypoint=("python3", "-c"), command=(program,), mounts=mounts,
        labels=LABELS,
    )  # fmt: skip


async def said(executor: Executor, spec: NodeSpec) -> str:
    started = await executor.start(spec)
    ended = await executor.wait(started.id)
    assert ended.exit_code == 0, await executor.tail(started.id)
    return "\n".join(await executor.tail(started.id, lines=1000, limit_bytes=1 << 20))


@pytest.fixture
def directories(tmp_path: Path) -> Path:
    """One directory to mount, and one whose content goes into a volume."""
    tmp_path.chmod(0o755)
    for name, word in (("usr", "host"), ("in-volume", "volume")):
        (tmp_path / name / "app").mkdir(parents=True)
        (tmp_path / name / "app" / "word").write_text(word)
    return tmp_path


async def test_what_a_swop_in_a_container_mounts_is_what_it_sees(
    executor: Executor, directories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = await executor.create_volume(VolumeSpec(f"{RUN}-volume", LABELS))
    await executor.import_volume(volume.name, directories / "in-volume")
    # Replaces the SWOP's own container: it reports its mounts as a process in it sees them.
    own = (
        Mount(MountKind.BIND, str(directories / "usr"), "/swop-usr"),
        Mount(MountKind.VOLUME, volume.name, "/swop-data"),
    )
    container = container_of(await said(executor, node(1, TELL, *own)))
    assert container is not None

    async def this_one() -> str:
        return container

    monkeypatch.setattr(container_volumes, "own_container", this_one)
    assert await executor.host_path("/swop-usr/app") == str(directories / "usr" / "app")
    assert await executor.host_path("/srv/of-the-host") == "/srv/of-the-host"
    monkeypatch.setattr("services.swop.executors.podman.IN_A_CONTAINER", Path("/"))
    mounts = [
        Mount(MountKind.BIND, f"/swop-{where}", target, read_only=True, subpath="app", seen_here=True)
        for where, target in (("usr", "/of-host"), ("data", "/of-volume"))
    ]
    assert (await said(executor, node(2, READ, *mounts))).strip() == "host volume"


def test_on_a_host_there_is_no_own_container() -> None:
    assert container_of("22 1 8:1 / / rw\n23 22 8:1 /etc/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n") is None
    assert container_of("") is None
