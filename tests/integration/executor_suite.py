"""What every executor guarantees. A subclass provides the executor and an image with Python in it."""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from services.errors import (
    ExecutorError,
    ImageMissing,
    MountEscapes,
    MountMissing,
    NodeNameInUse,
    NodeUnknown,
    ProgramMissing,
    PublishedPortInUse,
    VolumeBusy,
    VolumeMissing,
    VolumeNameInUse,
)
from services.swop.executors.base import Executor
from services.swop.executors.spec import Mount, MountKind, NodeSpec, NodeState, Owner, Port, StartedProgram, VolumeSpec

DEADLINE_S = 60
RUN = f"test-{secrets.token_hex(4)}"
LABELS = {"swarm.swop": RUN}
SHARED = "/tmp/hpe-swarm"  # noqa: S108 - the documented path, inside a node

WAITS_FOR_EVER = "import signal; print('ready', flush=True); signal.pause()"
ENDS_WHEN_ASKED = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
    "print('ready', flush=True); signal.pause()"
)
IGNORES_TERM = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)\n"
    "while True: signal.pause()"
)


class ExecutorSuite:
    """Nodes, volumes and errors. Tests for executors that build images are in BuildingSuite."""

    image: str

    def connect(self, tmp_path: Path) -> Executor:
        """A new executor for the same runtime and the same nodes."""
        raise NotImplementedError

    @pytest.fixture
    async def executor(self, tmp_path: Path) -> AsyncIterator[Executor]:
        async with self.connect(tmp_path) as executor:
            yield executor
            for node in await executor.find(LABELS):
                await executor.remove(node.id)
            for volume in await executor.find_volumes(LABELS):
                await executor.remove_volume(volume.name)

    @pytest.fixture
    def python(self) -> Callable[..., NodeSpec]:
        """A node that runs Python code."""

        def made(code: str, *arguments: str, **more: Any) -> NodeSpec:
            labels = {**LABELS, **more.pop("labels", {})}
            name = more.pop("name", f"{RUN}-{secrets.token_hex(4)}")
            more.setdefault("image", self.image)
            more.setdefault("user", Owner(os.getuid(), os.getgid()))
            return NodeSpec(
                name=name, entrypoint=("python3", "-u"), command=("-c", code, *arguments), labels=labels, **more
            )

        return made

    @pytest.fixture
    def ended(self, executor: Executor) -> Callable[[NodeSpec], Any]:
        """Starts a node and waits for its end; returns the node and its output."""

        async def run(spec: NodeSpec) -> tuple[StartedProgram, list[str]]:
            node = await executor.wait((await executor.start(spec)).id)
            return node, await executor.tail(node.id)

        return run

    # --- life ---------------------------------------------------------------------------------------

    async def test_says_what_it_is(self, executor: Executor) -> None:
        runtime = await executor.describe()
        assert runtime.kind == executor.kind
        assert runtime.version and runtime.address

    async def test_tells_how_a_program_ended_and_what_it_wrote(self, executor, python, ended) -> None:
        node, lines = await ended(python("import sys; print('to out'); print('to err', file=sys.stderr); sys.exit(3)"))
        assert (node.state, node.exit_code) == (NodeState.EXITED, 3)
        assert sorted(lines) == ["to err", "to out"]
        assert node.started_at is not None and node.ended_at is not None and node.started_at <= node.ended_at

    async def test_a_running_program_has_no_exit_code(self, executor, python) -> None:
        node = await executor.start(python(WAITS_FOR_EVER))
        assert (node.state, node.exit_code, node.ended_at) == (NodeState.RUNNING, None, None)

    async def test_a_signal_is_told_by_an_exit_code_above_128(self, executor, python, ended) -> None:
        node, _ = await ended(python("import os; os.abort()"))
        assert node.exit_code == 134

    async def test_asks_a_program_to_end_before_it_ends_it(self, executor, python) -> None:
        node = await executor.start(python(ENDS_WHEN_ASKED))
        await self.line(executor, node, "ready")
        assert (await executor.stop(node.id, grace_s=30)).exit_code == 7

    async def test_ends_a_program_that_does_not_listen(self, executor, python) -> None:
        node = await executor.start(python(IGNORES_TERM))
        await self.line(executor, node, "ready")
        assert (await executor.stop(node.id, grace_s=1)).exit_code == 137

    async def test_what_a_program_started_ends_with_it(self, executor, python, tmp_path: Path) -> None:
        """Even a process in another session, whose lock becomes free only when it is gone."""
        lock = tmp_path / "shared" / "lock"
        lock.parent.mkdir()
        code = (
            "import fcntl, os, signal, subprocess, sys\n"
            'held = \'import fcntl, signal; f = open("/shared/lock", "w"); fcntl.flock(f, fcntl.LOCK_EX); '
            'print("held", flush=True); signal.pause()\'\n'
            "subprocess.Popen([sys.executable, '-c', held], start_new_session=True)\n"
            "signal.pause()"
        )
        mount = Mount(MountKind.BIND, str(lock.parent), "/shared")
        node = await executor.start(python(code, mounts=(mount,)))
        await self.line(executor, node, "held")
        await executor.stop(node.id, grace_s=0)
        assert not is_locked(lock)

    async def test_what_an_ended_program_left_running_ends_as_well(self, executor, python, tmp_path: Path) -> None:
        lock = tmp_path / "shared" / "lock"
        lock.parent.mkdir()
        code = (
            "import subprocess, sys\n"
            'held = \'import fcntl, signal; f = open("/shared/lock", "w"); fcntl.flock(f, fcntl.LOCK_EX); '
            'print("held", flush=True); signal.pause()\'\n'
            "p = subprocess.Popen([sys.executable, '-c', held], start_new_session=True, stdout=subprocess.PIPE)\n"
            "p.stdout.readline(); sys.exit(5)"
        )
        mount = Mount(MountKind.BIND, str(lock.parent), "/shared")
        node = await executor.wait((await executor.start(python(code, mounts=(mount,)))).id)
        assert node.exit_code == 5
        assert not is_locked(lock)

    async def test_a_removed_node_is_gone_and_may_be_removed_again(self, executor, python) -> None:
        node = await executor.start(python(WAITS_FOR_EVER))
        await executor.remove(node.id)
        await executor.remove(node.id)
        assert await executor.find(LABELS) == []
        for asked in (executor.node, executor.wait, executor.tail):
            with pytest.raises(NodeUnknown):
                await asked(node.id)
        with pytest.raises(NodeUnknown):
            await executor.stop(node.id, grace_s=1)

    async def test_stopping_what_has_ended_changes_nothing(self, executor, python, ended) -> None:
        node, _ = await ended(python("raise SystemExit(4)"))
        assert (await executor.stop(node.id, grace_s=1)).exit_code == 4

    async def test_a_wait_ends_when_the_node_is_removed(self, executor, python) -> None:
        node = await executor.start(python(WAITS_FOR_EVER))
        waiting = asyncio.create_task(executor.wait(node.id))
        await asyncio.wait({waiting}, timeout=0.2)
        await executor.remove(node.id)
        with contextlib.suppress(NodeUnknown):
            assert (await waiting).exit_code == 137

    async def test_a_wait_may_be_given_up(self, executor, python) -> None:
        node = await executor.start(python(ENDS_WHEN_ASKED))
        await self.line(executor, node, "ready")
        waiting = [asyncio.create_task(executor.wait(node.id)) for _ in range(20)]
        await asyncio.wait(waiting, timeout=0.2)
        for task in waiting[1:]:
            task.cancel()
        await executor.stop(node.id, grace_s=30)
        assert (await waiting[0]).exit_code == 7

    # --- adoption -----------------------------------------------------------------------------------

    async def test_another_executor_finds_what_runs_and_what_ended_meanwhile(self, executor, python, tmp_path) -> None:
        runs = await executor.start(python(ENDS_WHEN_ASKED, labels={"swarm.index": "0"}))
        ends = await executor.start(python("raise SystemExit(9)", labels={"swarm.index": "1"}))
        await executor.wait(ends.id)
        await self.line(executor, runs, "ready")
        async with self.connect(tmp_path) as other:
            found = {node.labels["swarm.index"]: node for node in await other.find(LABELS)}
            assert (found["0"].state, found["0"].id, found["0"].name) == (NodeState.RUNNING, runs.id, runs.name)
            assert (found["1"].state, found["1"].exit_code) == (NodeState.EXITED, 9)
            assert [node.id for node in await other.find({**LABELS, "swarm.index": "1"})] == [ends.id]
            assert await other.find({**LABELS, "swarm.index": "2"}) == []
            assert (await other.stop(runs.id, grace_s=30)).exit_code == 7

    async def test_a_name_is_given_once(self, executor, python) -> None:
        node = await executor.start(python(WAITS_FOR_EVER))
        with pytest.raises(NodeNameInUse, match=node.name):
            await executor.start(python("", name=node.name))
        assert [found.id for found in await executor.find(LABELS)] == [node.id]
        await executor.remove(node.id)
        await executor.start(python("", name=node.name))

    # --- what a program sees ------------------------------------------------------------------------

    async def test_knows_the_environment_it_was_given_and_nothing_of_the_swops(
        self, executor, python, ended, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SWARM_ID_KEY", "/keys/of/the/swop")
        monkeypatch.setenv("OF_THE_OWNER", "secret")
        environment = {"GIVEN": "a b='c' $HOME \"d\"", "EMPTY": "", "NOT_ASCII": "Zürich"}
        code = (
            "import os; print([os.environ.get(n) for n in ('GIVEN','EMPTY','NOT_ASCII','SWARM_ID_KEY','OF_THE_OWNER')])"
        )
        _, lines = await ended(python(code, environment=environment))
        assert lines == [str(["a b='c' $HOME \"d\"", "", "Zürich", None, None])]

    async def test_arguments_arrive_as_they_are(self, executor, python, ended) -> None:
        words = ["--a=b c", "$(id)", ";", "'", '"', "", "ü"]
        _, lines = await ended(python("import sys; print(sys.argv[1:])", *words))
        assert lines == [str(words)]

    async def test_works_where_it_is_told(self, executor, python, ended, tmp_path: Path) -> None:
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "mine.py").write_text("HERE = True")
        mount = Mount(MountKind.BIND, str(tmp_path / "code"), "/platform/code", read_only=True)
        code = "import mine, os; print(os.getcwd())"
        _, lines = await ended(python(code, mounts=(mount,), working_dir="/platform/code"))
        assert lines == ["/platform/code"]

    async def test_has_the_host_name_it_was_given(self, executor, python, ended) -> None:
        _, lines = await ended(python("import socket; print(socket.gethostname())", hostname="sl-1.hospital"))
        assert lines == ["sl-1.hospital"]

    async def test_finds_mounts_at_their_paths_and_cannot_write_into_read_only_ones(
        self, executor, python, ended, tmp_path: Path
    ) -> None:
        for name in ("data", "model"):
            (tmp_path / name).mkdir()
        (tmp_path / "data" / "x.csv").write_text("1,2")
        mounts = (
            Mount(MountKind.BIND, str(tmp_path / "data"), "/platform/data", read_only=True),
            Mount(MountKind.BIND, str(tmp_path / "model"), "/platform/model"),
        )
        code = (
            "from pathlib import Path\n"
            "print(Path('/platform/data/x.csv').read_text())\n"
            "Path('/platform/model/m').write_text('trained')\n"
            "try: Path('/platform/data/y').write_text('')\n"
            "except OSError as error: print(error.strerror)"
        )
        node, lines = await ended(python(code, mounts=mounts))
        assert node.exit_code == 0
        assert lines == ["1,2", "Read-only file system"]
        assert (tmp_path / "model" / "m").read_text() == "trained"
        assert [path.name for path in (tmp_path / "data").iterdir()] == ["x.csv"]

    async def test_a_single_file_can_be_mounted(self, executor, python, ended, tmp_path: Path) -> None:
        (tmp_path / "sl-1.pem").write_text("certificate")
        mount = Mount(MountKind.BIND, str(tmp_path / "sl-1.pem"), "/swarm-cert/cert.pem", read_only=True)
        _, lines = await ended(python("print(open('/swarm-cert/cert.pem').read())", mounts=(mount,)))
        assert lines == ["certificate"]

    async def test_what_it_writes_belongs_to_its_user(self, executor, python, ended, tmp_path: Path) -> None:
        owner = Owner(4321, 5432) if os.getuid() == 0 else Owner(os.getuid(), os.getgid())
        (tmp_path / "model").mkdir()
        os.chown(tmp_path / "model", owner.uid, owner.gid)
        mount = Mount(MountKind.BIND, str(tmp_path / "model"), "/platform/model")
        code = "import os; open('/platform/model/m', 'w'); print(os.getuid(), os.getgid())"
        _, lines = await ended(python(code, mounts=(mount,), user=owner))
        assert lines == [f"{owner.uid} {owner.gid}"]
        status = (tmp_path / "model" / "m").stat()
        assert Owner(status.st_uid, status.st_gid) == owner

    async def test_any_user_has_a_directory_for_passing_files_and_shared_memory(self, executor, python, ended) -> None:
        owner = Owner(4321, 5432) if os.getuid() == 0 else Owner(os.getuid(), os.getgid())
        code = "import multiprocessing as m, tempfile; m.Lock(); tempfile.NamedTemporaryFile(); open('/dev/shm/x', 'w')"
        node, lines = await ended(python(code, user=owner))
        assert (node.exit_code, lines) == (0, [])

    async def test_nothing_of_the_host_can_be_written_but_what_is_mounted(
        self, executor, python, ended, tmp_path: Path
    ) -> None:
        (tmp_path / "keys").mkdir()
        code = (
            "import sys\n"
            "for path in sys.argv[1:]:\n"
            "  try: open(path, 'w').write('x'); print('wrote', path)\n"
            "  except OSError: print('could not')"
        )
        aims = [
            str(tmp_path / "keys" / "new"),
            "/etc/swarm-test",
            "/usr/swarm-test",
            "/swarm-test",
            "/proc/sysrq-trigger",
        ]
        await ended(python(code, *aims, user=Owner(os.getuid(), os.getgid())))
        assert list((tmp_path / "keys").iterdir()) == []
        assert not any(os.path.exists(aim) for aim in aims[1:4])  # noqa: PTH110, ASYNC240

    async def test_a_part_of_a_directory_can_be_mounted(self, executor, python, ended, tmp_path: Path) -> None:
        (tmp_path / "certs" / "sl-1").mkdir(parents=True)
        (tmp_path / "certs" / "sl-1" / "cert.pem").write_text("certificate")
        mount = Mount(MountKind.BIND, str(tmp_path / "certs"), "/swarm-cert", read_only=True, subpath="sl-1")
        _, lines = await ended(python("import os; print(os.listdir('/swarm-cert'))", mounts=(mount,)))
        assert lines == ["['cert.pem']"]

    @pytest.mark.parametrize("subpath", ["../keys", "sl-1/../../keys", "link", "/etc", ""])
    async def test_a_part_that_leads_out_is_refused(self, executor, python, tmp_path: Path, subpath: str) -> None:
        (tmp_path / "keys").mkdir()
        (tmp_path / "certs" / "sl-1").mkdir(parents=True)
        (tmp_path / "certs" / "link").symlink_to(tmp_path / "keys")
        mount = Mount(MountKind.BIND, str(tmp_path / "certs"), "/swarm-cert", subpath=subpath)
        with pytest.raises(MountEscapes, match="/swarm-cert"):
            await executor.start(python("", mounts=(mount,)))
        assert await executor.find(LABELS) == []

    async def test_shows_its_last_lines_only_and_nothing_that_moves_a_cursor(self, executor, python, ended) -> None:
        code = (
            "import sys\n"
            "for n in range(5000): print('line', n)\n"
            r"sys.stdout.flush(); sys.stdout.buffer.write(b'bad \xff\xfe bytes\n\x1b[31mred\x1b[0m\x07\n')"
        )
        node, lines = await ended(python(code))
        assert lines == [*(f"line {n}" for n in range(4982, 5000)), "bad \ufffd\ufffd bytes", "[31mred[0m"]
        assert await executor.tail(node.id, lines=2) == lines[-2:]
        assert len("".join(await executor.tail(node.id, lines=1000, limit_bytes=500))) <= 500

    async def test_a_line_without_end_is_cut(self, executor, python, ended) -> None:
        _, lines = await ended(python("print('x' * 3_000_000)"))
        assert 0 < len("".join(lines)) <= 16 * 1024

    # --- what is not there --------------------------------------------------------------------------

    async def refused(self, executor: Executor, spec: NodeSpec, kind: type[ExecutorError], *words: str) -> None:
        with pytest.raises(kind) as raised:
            await executor.start(spec)
        for word in words:
            assert word in str(raised.value)
        assert "\n" not in str(raised.value)
        assert await executor.find(LABELS) == []

    async def test_an_image_that_is_not_here(self, executor, python) -> None:
        await self.refused(executor, python("", image="never-built:1"), ImageMissing, "never-built:1")

    async def test_a_bind_source_that_is_not_there_is_not_made(self, executor, python, tmp_path: Path) -> None:
        mount = Mount(MountKind.BIND, str(tmp_path / "absent"), "/platform/data")
        await self.refused(executor, python("", mounts=(mount,)), MountMissing, str(tmp_path / "absent"))
        assert not (tmp_path / "absent").exists()

    async def test_a_volume_that_is_not_there_is_not_made(self, executor, python, tmp_path: Path) -> None:
        mount = Mount(MountKind.VOLUME, f"{RUN}-absent", "/platform/data")
        await self.refused(executor, python("", mounts=(mount,)), VolumeMissing, f"{RUN}-absent")
        with pytest.raises(VolumeMissing):
            await executor.import_volume(f"{RUN}-absent", tmp_path)

    async def test_a_program_that_is_not_in_the_image(self, executor, python) -> None:
        spec = python("")
        spec = NodeSpec(name=spec.name, image=spec.image, entrypoint=("no-such-program",), labels=LABELS)
        await self.refused(executor, spec, ProgramMissing, "no-such-program", self.image)

    async def test_a_port_that_is_taken(self, executor, python) -> None:
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", 0))  # noqa: S104 - where a port is published
            taken.listen()
            number = taken.getsockname()[1]
            spec = python(WAITS_FOR_EVER, ports=(Port(inside=number, outside=number),))
            await self.refused(executor, spec, PublishedPortInUse, str(number))

    # --- volumes ------------------------------------------------------------------------------------

    @pytest.fixture
    def volume(self) -> str:
        return f"{RUN}-volume-{secrets.token_hex(4)}"

    async def test_two_programs_of_one_user_meet_at_a_pipe(self, executor, python, volume: str) -> None:
        owner = Owner(4321, 5432) if os.getuid() == 0 else Owner(os.getuid(), os.getgid())
        await executor.create_volume(VolumeSpec(volume, LABELS, owner=owner, memory_bytes=1024**2))
        mount = Mount(MountKind.VOLUME, volume, SHARED)
        makes = (
            "import os, sys; pipe = sys.argv[1] + '/pipe'; os.mkfifo(pipe, 0o600); print('ready', flush=True); "
            "print(open(pipe).read())"
        )
        reader = await executor.start(python(makes, SHARED, mounts=(mount,), user=owner))
        await self.line(executor, reader, "ready")
        writer = await executor.start(
            python("import sys; open(sys.argv[1] + '/pipe', 'w').write('hello')", SHARED, mounts=(mount,), user=owner)
        )
        assert (await executor.wait(writer.id)).exit_code == 0, await executor.tail(writer.id)
        assert (await executor.wait(reader.id)).exit_code == 0
        assert (await executor.tail(reader.id))[-1] == "hello"

    async def test_a_volume_on_disk_may_belong_to_a_user(self, executor, python, ended, volume: str) -> None:
        owner = Owner(4321, 5432) if os.getuid() == 0 else Owner(os.getuid(), os.getgid())
        await executor.create_volume(VolumeSpec(volume, LABELS, owner=owner))
        mount = Mount(MountKind.VOLUME, volume, "/platform/swarm/SMLNODE")
        code = "open('/platform/swarm/SMLNODE/x', 'w')"
        for _ in range(2):  # by two nodes in turn: the content stays
            node, lines = await ended(python(code, mounts=(mount,), user=owner))
            assert (node.exit_code, lines) == (0, [])

    async def test_volumes_are_found_by_label_and_go_with_their_content(self, executor, volume: str) -> None:
        await executor.create_volume(VolumeSpec(volume, {**LABELS, "swarm.index": "0"}))
        with pytest.raises(VolumeNameInUse, match=volume):
            await executor.create_volume(VolumeSpec(volume, LABELS))
        assert [found.name for found in await executor.find_volumes(LABELS)] == [volume]
        assert await executor.find_volumes({**LABELS, "swarm.index": "1"}) == []
        await executor.remove_volume(volume)
        await executor.remove_volume(volume)
        assert await executor.find_volumes(LABELS) == []

    async def test_a_volume_in_use_stays(self, executor, python, volume: str) -> None:
        await executor.create_volume(VolumeSpec(volume, LABELS))
        node = await executor.start(python(WAITS_FOR_EVER, mounts=(Mount(MountKind.VOLUME, volume, "/shared"),)))
        with pytest.raises(VolumeBusy, match=volume):
            await executor.remove_volume(volume)
        await executor.remove(node.id)
        await executor.remove_volume(volume)

    async def test_content_travels_into_a_volume(self, executor, python, ended, volume, tmp_path: Path) -> None:
        into = tmp_path / "into"
        (into / "sub").mkdir(parents=True)
        (into / "sub" / "run.sh").write_text("x" * 300_000)
        (into / "sub" / "run.sh").chmod(0o755)
        (into / "inside").symlink_to("sub/run.sh")
        (into / "outside").symlink_to("../../../etc/passwd")
        (into / "absolute").symlink_to("/etc/passwd")
        os.mkfifo(into / "pipe")
        await executor.create_volume(VolumeSpec(volume, LABELS))
        await executor.import_volume(volume, into)
        code = (
            "import os; found = os.stat('/v/sub/run.sh'); "
            "print(found.st_size, oct(found.st_mode & 0o777), *sorted(os.listdir('/v')))"
        )
        _, lines = await ended(python(code, mounts=(Mount(MountKind.VOLUME, volume, "/v", read_only=True),)))
        assert lines == ["300000 0o755 inside sub"]

    async def test_a_part_of_a_volume_can_be_mounted(self, executor, python, ended, volume, tmp_path: Path) -> None:
        (tmp_path / "into" / "sl-1").mkdir(parents=True)
        (tmp_path / "into" / "sl-1" / "cert.pem").write_text("certificate")
        await executor.create_volume(VolumeSpec(volume, LABELS))
        await executor.import_volume(volume, tmp_path / "into")
        mount = Mount(MountKind.VOLUME, volume, "/swarm-cert", read_only=True, subpath="sl-1")
        _, lines = await ended(python("import os; print(os.listdir('/swarm-cert'))", mounts=(mount,)))
        assert lines == ["['cert.pem']"]

    # --- how it is asked ----------------------------------------------------------------------------

    @staticmethod
    async def line(executor: Executor, node: StartedProgram, wanted: str) -> None:
        """Returns when a running node has written this line."""
        async with asyncio.timeout(DEADLINE_S):
            while wanted not in (lines := await executor.tail(node.id)):
                assert (await executor.node(node.id)).state is NodeState.RUNNING, lines
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait(), 0.05)


def is_locked(path: Path) -> bool:
    import fcntl

    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
