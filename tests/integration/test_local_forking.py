"""Nodes forked from a process that has already loaded their code: each is a child like any other."""

import ctypes
import os
import sys
from pathlib import Path

import pytest

from services.errors import ChildFailed
from services.local.forking import OF_NODES, fork_server
from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, node_environment

DEADLINE_S = 60

pytestmark = pytest.mark.timeout(2 * DEADLINE_S)


def node(tmp_path: Path, *arguments: str, held: bool = False) -> Launch:
    argv = (sys.executable, "-m", "services.cli", *arguments)
    log = tmp_path / f"{arguments[0]}.log"
    return Launch(arguments[0], argv, log, node_environment(SL_SN_IP="127.0.0.1"), cwd=CODE_ROOT, held=held)


def read(child: Child, file: str) -> str:
    return Path("/proc", str(child.pid), file).read_text().replace("\0", " ")


def descriptors(child: Child) -> list[str]:
    return sorted(entry.readlink().name for entry in Path("/proc", str(child.pid), "fd").iterdir())


async def test_a_forked_node_ends_with_its_own_code_and_output(tmp_path: Path) -> None:
    async with fork_server(tmp_path / "forks.log", OF_NODES) as forks:
        well = Child.start(node(tmp_path, "version"), forks)
        badly = Child.start(node(tmp_path, "sl", "--no-such-flag"), forks)
        assert await well.wait() == 0
        assert await badly.wait() == 2
    assert well.log.read_text().strip()
    with pytest.raises(ChildFailed, match="no-such-flag"):
        await badly.ready()


async def test_a_forked_node_outlives_the_fork_server_as_a_child_with_its_own_command_line(tmp_path: Path) -> None:
    async with fork_server(tmp_path / "forks.log", OF_NODES) as forks:
        child = Child.start(node(tmp_path, "sl", "--data-dir", str(tmp_path / "data"), held=True), forks)
    assert f"services.cli sl --data-dir {tmp_path / 'data'}" in read(child, "cmdline")
    assert read(child, "stat").rpartition(")")[2].split()[1] == str(os.getpid())
    assert os.getsid(child.pid) == child.pid
    child.kill()
    assert await child.wait() == -9


async def test_it_gets_nothing_but_its_output_and_the_line_to_its_starter(tmp_path: Path) -> None:
    async with fork_server(tmp_path / "forks.log", OF_NODES) as forks:
        children = [Child.start(node(tmp_path, "sl", held=True), forks) for _ in range(2)]
        opened = descriptors(children[1])
        assert opened[:3] == ["null", "sl.log", "sl.log"]
        assert {name.partition(":")[0] for name in opened[3:]} == {"socket"}
        assert len(opened) <= 5  # one line to its starter, twice while it waits for its word
        children[0].go()
        assert await children[0].wait() != 0  # it knows no license server
        await children[1].stop()


async def test_a_fork_server_that_cannot_load_the_code_is_told_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "setproctitle.py").write_text("raise ImportError('no such library')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ChildFailed, match="no such library"):
        async with fork_server(tmp_path / "forks.log", OF_NODES):
            pytest.fail("it is ready")


async def test_nothing_is_adopted_any_more_when_a_node_has_started(tmp_path: Path) -> None:
    async with fork_server(tmp_path / "forks.log", OF_NODES) as forks:
        child = Child.start(node(tmp_path, "version"), forks)
        assert not _adopts()
        await child.wait()


async def test_a_fork_runs_whatever_module_python_would_run(tmp_path: Path) -> None:
    argv = (sys.executable, "-m", "json.tool", "--no-such-flag")
    launch = Launch("tool", argv, tmp_path / "tool.log", node_environment(), cwd=CODE_ROOT, is_node=False)
    async with fork_server(tmp_path / "forks.log", ["json"]) as forks:
        child = Child.start(launch, forks)
        assert await child.wait() == 2
    assert "no-such-flag" in child.log.read_text()


async def test_what_is_loaded_later_is_loaded_in_whatever_is_forked_then(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text("import sys; print('sched' in sys.modules)")
    environment = node_environment(PYTHONPATH=str(tmp_path))
    launch = Launch("told", (sys.executable, "-m", "told"), tmp_path / "told.log", environment, is_node=False)
    async with fork_server(tmp_path / "forks.log", [], PYTHONPATH=str(tmp_path)) as forks:
        assert await Child.start(launch, forks).wait() == 0
        await forks.load(["sched"])
        assert await Child.start(launch, forks).wait() == 0
        with pytest.raises(ChildFailed, match="no_such_module"):
            await forks.load(["no_such_module"])
    assert launch.log.read_text().split() == ["False", "True"]


def _adopts() -> bool:
    answer = ctypes.c_int()
    ctypes.CDLL(None).prctl(37, ctypes.byref(answer), 0, 0, 0)  # PR_GET_CHILD_SUBREAPER
    return bool(answer.value)
