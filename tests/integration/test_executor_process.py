"""The executor PROCESS: local processes, through the real bubblewrap."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from executor_suite import ExecutorSuite

from services.swop.executors.base import Executor
from services.swop.executors.environments import CODE_ROOT, LocalEnvironment
from services.swop.executors.hiding import homes
from services.swop.executors.process import ProcessExecutor
from services.swop.executors.spec import Owner

IMAGE = "user-env"
SOMEBODY = Owner(12345, 12345) if os.getuid() == 0 else Owner(os.getuid(), os.getgid())
LOOKS = """
import os, sys
for path in sys.argv[1:]:
    try:
        print(path, "|", sorted(os.listdir(path)) if os.path.isdir(path) else open(path).read())
    except OSError as error:
        print(path, "|", type(error).__name__)
"""


@pytest.mark.needs("bubblewrap")
class TestProcess(ExecutorSuite):
    image = IMAGE

    def connect(self, tmp_path: Path) -> Executor:
        return ProcessExecutor(tmp_path / "process", {IMAGE: LocalEnvironment(Path(sys.executable))})

    # --- what a program must not see -----------------------------------------------------------------

    @pytest.fixture
    def outside(self) -> Iterator[Path]:
        """A directory outside /tmp, as programs see nothing of the host's /tmp anyway."""
        with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="swarm-test-") as name:
            Path(name).chmod(0o755)
            yield Path(name)

    async def seen(self, executor: Any, spec: Any) -> dict[str, str]:
        """What ``LOOKS`` reported about each path."""
        node = await executor.wait((await executor.start(spec)).id)
        told = [line.partition("|") for line in await executor.tail(node.id)]
        return {path.strip(): what.strip() for path, _, what in told}

    async def test_keys_and_homes_are_hidden(self, python, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        home, certs, usr = outside / "home", outside / "certs", outside / "usr"
        for directory in (home / ".ssh", certs, usr):
            directory.mkdir(parents=True)
        for file in (home / ".ssh" / "id", certs / "key.pem", usr / "profile.yaml", usr / "train.py"):
            file.write_text("secret")
            file.chmod(0o644)
        monkeypatch.setenv("HOME", str(home))
        secrets = (certs, certs / "key.pem", usr / "profile.yaml")
        data = outside / "data"
        async with ProcessExecutor(data, {IMAGE: LocalEnvironment(Path(sys.executable))}, secrets=secrets) as executor:
            paths = [home, certs, certs / "key.pem", usr / "profile.yaml", usr / "train.py", data, Path("/root/.ssh")]
            try:
                seen = await self.seen(executor, python(LOOKS, *map(str, paths)))
            finally:
                for node in await executor.find({}):
                    await executor.remove(node.id)
        assert seen[str(home)] == seen[str(certs)] == seen[str(data)] == "[]"
        assert seen[str(certs / "key.pem")] == seen["/root/.ssh"] == "FileNotFoundError"
        assert seen[str(usr / "profile.yaml")] in ("PermissionError", "")
        assert seen[str(usr / "train.py")] == "secret"

    def test_a_user_may_have_no_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(os, "getuid", lambda: 54321)
        assert homes()[:2] == [Path("/root"), Path("/home")]

    async def test_code_is_seen_in_a_hidden_place_and_keys_in_code_are_not(
        self, python, outside: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment = outside / "home" / "env"
        (environment / "bin").mkdir(parents=True)
        (environment / "bin" / "python").symlink_to(sys.executable)
        (environment / "certs").mkdir()
        (environment / "certs" / "key.pem").write_text("secret")
        (environment / "code.py").write_text("code")
        monkeypatch.setenv("HOME", str(outside / "home"))
        image = LocalEnvironment(environment / "bin" / "python")
        async with ProcessExecutor(
            outside / "data", {IMAGE: image}, secrets=(environment / "certs", environment / "certs" / "key.pem")
        ) as executor:
            ours = CODE_ROOT / "services" / "py.typed"
            paths = [outside / "home", environment / "code.py", environment / "certs", ours]
            try:
                look = python(LOOKS, *map(str, paths), working_dir=str(outside / "home"), user=SOMEBODY)
                seen = await self.seen(executor, look)
            finally:
                for node in await executor.find({}):
                    await executor.remove(node.id)
        assert seen[str(outside / "home")] == "['env']"
        assert seen[str(environment / "code.py")] == "code"
        assert seen[str(environment / "certs")] == "[]"
        assert seen[str(ours)] == ""
