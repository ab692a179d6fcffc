"""What `swarm up` leaves on disk, and how `swarm down` uses it."""

import errno
import fcntl
import socket
import subprocess
from pathlib import Path

import pytest

from services.errors import AlreadyRunning, DirUnusable, NotRunning, StorageError
from services.local.down import down
from services.local.process import start_ticks
from services.local.state import STATE_FILE, Running, SwarmState, claimed, remember_ports, remembered_ports
from services.sn.state import claimed as data_claimed

GONE = Running("swarm up", 2**22 + 1, 1)


def running(process: "subprocess.Popen[bytes]", name: str = "sn-1") -> Running:
    return Running(name, process.pid, start_ticks(process.pid))


@pytest.fixture
def sleeper():  # type: ignore[no-untyped-def]
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_the_state_survives_writing_and_reading(tmp_path: Path) -> None:
    state = SwarmState(Running.this_process(), (GONE,), "127.0.0.1:30304", "geth")
    state.write(tmp_path)
    assert SwarmState.read(tmp_path) == state
    assert state.supervisor.alive


def test_a_directory_without_a_swarm_is_said_to_have_none(tmp_path: Path) -> None:
    for prepare in (
        lambda: None,
        lambda: (tmp_path / STATE_FILE).write_text("{"),
        lambda: (tmp_path / STATE_FILE).write_text("[]"),
    ):
        prepare()
        with pytest.raises(NotRunning, match="No swarm runs in"):
            down(tmp_path)


def test_down_stops_what_was_started_when_its_starter_is_gone(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    SwarmState(GONE, (running(sleeper),)).write(tmp_path)
    assert down(tmp_path) == ["sn-1"]
    assert sleeper.wait(10) != 0
    assert not (tmp_path / STATE_FILE).exists()


def test_down_leaves_a_process_alone_that_only_has_the_same_number(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    another = Running("sn-1", sleeper.pid, start_ticks(sleeper.pid) - 1)
    SwarmState(another, (another,)).write(tmp_path)
    assert down(tmp_path) == []
    assert sleeper.poll() is None


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (
        pytest.raises(DirUnusable, match=r"its file system has no locks \(No locks available\)\. .*another --dir"),
        claimed(tmp_path),
    ):
        pass
    with pytest.raises(StorageError, match="its file system has no locks"), data_claimed(tmp_path):
        pass


def test_ports_are_kept_for_the_next_run_unless_taken(tmp_path: Path) -> None:
    assert remembered_ports(tmp_path, "127.0.0.1") == {}
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"sn-1": taken.getsockname()[1], "sl-1": other.getsockname()[1]}
        remember_ports(tmp_path, ports)
        other.close()
        assert remembered_ports(tmp_path, "127.0.0.1") == {"sl-1": ports["sl-1"]}


def test_a_directory_belongs_to_one_swarm_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(AlreadyRunning, match="A swarm already runs in"), claimed(tmp_path):
        pass
    with claimed(tmp_path):
        pass


def test_nodes_left_behind_keep_a_directory(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    SwarmState(GONE, (running(sleeper),)).write(tmp_path)
    with pytest.raises(AlreadyRunning), claimed(tmp_path):
        pass


def test_a_file_where_the_directory_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DirUnusable, match="cannot be used for a local swarm"), claimed(tmp_path / "file" / "swarm"):
        pass


def test_a_place_where_nobody_may_write_is_refused() -> None:
    with pytest.raises(DirUnusable, match="cannot be used for a local swarm"), claimed(Path("/proc/swarm")):
        pass
