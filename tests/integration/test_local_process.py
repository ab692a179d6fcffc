"""The launcher of child processes, with real children."""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.errors import ChildFailed, NotReady
from services.local.process import Child, Launch, node_environment, program_environment, start_ticks
from tests.processes import gone

NODE = """
import asyncio
from services.runtime.process import run_node

async def main(stop, ready):
    print("listening")
    ready.report(port=4711)
    await stop.wait()
    print("stopped in order")

raise SystemExit(run_node(main))
"""
STUBBORN = """
import os, signal, socket
signal.signal(signal.SIGTERM, signal.SIG_IGN)
socket.socket(fileno=int(os.environ["SWARM_READY_FD"])).sendall(b'{"port": 1}\\n')
while True:
    signal.pause()
"""
HELD = """
from services.runtime.ready import ReadySocket, settings_told_late
told = settings_told_late()
ReadySocket().report(**told)
"""
SILENT = "import signal; print('still thinking', flush=True); signal.pause()"
FAILING = "import sys; print('first'); print('ERROR: Port 5 is taken.', file=sys.stderr); sys.exit(12)"


def launch(tmp_path: Path, source: str, *, is_node: bool = True, name: str = "child") -> Launch:
    environment = node_environment() if is_node else program_environment()
    return Launch(name, (sys.executable, "-c", source), tmp_path / f"{name}.log", environment, is_node=is_node)


async def test_a_node_is_ready_by_its_own_word_and_stops_on_term(tmp_path: Path) -> None:
    child = Child.start(launch(tmp_path, NODE))
    assert await child.ready(30) == {"port": 4711}
    assert await child.stop() is False
    assert child.exited.result() == 0
    assert "stopped in order" in child.log.read_text()


async def test_a_held_node_begins_when_it_is_told_with_the_settings_that_came_late(tmp_path: Path) -> None:
    child = Child.start(replace(launch(tmp_path, HELD), held=True))
    child.go(port=4711)
    assert await child.ready(30) == {"port": 4711}
    assert await child.wait() == 0


async def test_a_held_node_ends_with_its_starter(tmp_path: Path) -> None:
    starter = f"""
import asyncio, sys
from pathlib import Path
from services.local.process import Child, Launch, node_environment
async def main():
    log = Path({str(tmp_path)!r}) / "node.log"
    print(Child.start(Launch("node", (sys.executable, "-c", {HELD!r}), log, node_environment(), held=True)).pid)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    outer = Child.start(launch(tmp_path, starter, is_node=False, name="starter"))
    node = await _number_in(outer.log, outer)
    outer.kill()
    await outer.wait()
    await gone(node)


async def test_a_node_that_ends_before_it_is_ready_fails_with_its_exit_code_and_last_lines(tmp_path: Path) -> None:
    child = Child.start(launch(tmp_path, FAILING))
    with pytest.raises(ChildFailed) as failure:
        await child.ready(30)
    assert "child ended with exit code 12" in str(failure.value)
    assert "ERROR: Port 5 is taken." in str(failure.value)
    assert str(child.log) in str(failure.value)


async def test_a_node_that_says_nothing_is_not_ready_after_its_deadline(tmp_path: Path) -> None:
    child = Child.start(launch(tmp_path, SILENT))
    try:
        with pytest.raises(NotReady, match=r"child was not ready after 0\.2 s"):
            await child.ready(0.2)
    finally:
        await child.stop()


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="no-such-program"):
        Child.start(Launch("ml-1", ("no-such-program",), tmp_path / "log", program_environment(), is_node=False))


async def test_a_child_that_ignores_term_is_killed_and_that_is_said(tmp_path: Path) -> None:
    child = Child.start(launch(tmp_path, STUBBORN))
    await child.ready(30)
    assert await child.stop(within_s=0.1) is True
    assert child.exited.result() == -signal.SIGKILL
    assert "-9 (SIGKILL)" in str(child.failure())


async def test_a_program_takes_its_own_children_with_it(tmp_path: Path) -> None:
    source = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True); sys.exit(3)"
    child = Child.start(launch(tmp_path, source, is_node=False))
    assert await child.wait() == 3
    await gone(int(child.log.read_text()))


async def test_a_node_stops_when_its_starter_is_killed(tmp_path: Path) -> None:
    starter = f"""
import asyncio, sys
from pathlib import Path
from services.local.process import Child, Launch, node_environment
async def main():
    log = Path({str(tmp_path)!r}) / "node.log"
    child = Child.start(Launch("node", (sys.executable, "-c", {NODE!r}), log, node_environment()))
    await child.ready(30)
    print(child.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    outer = Child.start(launch(tmp_path, starter, is_node=False, name="starter"))
    node = await _number_in(outer.log, outer)
    outer.kill()
    await outer.wait()
    await gone(node)
    assert "stopped in order" in (tmp_path / "node.log").read_text()


async def test_the_last_lines_of_a_program_are_shown_whatever_they_are_and_however_it_ends(tmp_path: Path) -> None:
    source = r"""
import os, sys
print("x" * 300_000)
sys.stdout.flush()
sys.stdout.buffer.write(b"loss \xff\xfe\x00 \x1b[31m\r 10%|###   |\n")
sys.stdout.flush()
os.kill(os.getpid(), 11)
"""
    child = Child.start(launch(tmp_path, source, is_node=False))
    assert await child.wait() == -signal.SIGSEGV
    assert "child ended with exit code -11 (SIGSEGV)" in str(child.failure())
    assert " 10%|###   |" in str(child.failure())


async def test_logs_are_appended_to_but_only_this_run_is_shown(tmp_path: Path) -> None:
    for word in ("before", "now"):
        child = Child.start(launch(tmp_path, f"print({word!r})", is_node=False))
        await child.wait()
    assert child.log.read_text() == "before\nnow\n"
    assert child.tail() == "  now"


async def test_nothing_of_the_starters_environment_reaches_a_node_but_what_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    child = Child.start(launch(tmp_path, "import os; print(sorted(os.environ))"))
    await child.wait()
    assert "MY_TOKEN" not in child.log.read_text()
    assert "https_proxy" not in child.log.read_text()
    assert "PATH" in child.log.read_text()


async def test_a_program_gets_the_users_environment_but_no_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", "here")
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    environment = program_environment(SWARM_NODE_INDEX="1")
    assert environment["DATA_DIR"] == "here"
    assert environment["SWARM_NODE_INDEX"] == "1"
    assert "SWARM_LOOPBACK" not in environment


def test_a_process_is_named_by_its_start_time() -> None:
    assert start_ticks(os.getpid()) > 0
    assert start_ticks(2**22 + 1) == 0


async def _number_in(log: Path, child: Child) -> int:
    """The first number that a child prints, or its failure."""
    found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def look() -> None:
        if log.read_text().endswith("\n"):
            found.set_result(int(log.read_text()))
        elif child.exited.done():
            found.set_exception(child.failure())
        else:
            asyncio.get_running_loop().call_later(0.05, look)

    look()
    return await asyncio.wait_for(found, 30)


async def test_a_log_that_is_long_begins_anew_while_the_node_goes_on(tmp_path: Path) -> None:
    child = Child.start(launch(tmp_path, NODE))
    await child.ready(30)
    size = child.log.stat().st_size
    child.rotate_log(size)
    assert child.log.stat().st_size == size
    child.rotate_log(size - 1)
    assert child.log.with_name("child.log.1").read_text() == "listening\n"
    await child.stop()
    assert child.log.read_text() == "stopped in order\n"
    assert child.tail() == "  stopped in order"
