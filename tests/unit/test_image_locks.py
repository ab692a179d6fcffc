"""What images install: the same versions as everybody has, each with its hash, and all that is asked for."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "docker" / "locks").glob("*.txt"))
PIN = re.compile(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==(\S+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_images_install_what_the_lock_says_and_only_by_hash(lock: Path) -> None:
    everybody = pins(ROOT / "requirements.lock")
    here = pins(lock)
    assert dict(PIN.findall(lock.read_text())) == here
    if lock.stem != "build":
        assert here == {name: everybody.get(name) for name in here}, "run `make image-locks`"


@pytest.mark.parametrize(
    ("locks", "extra"),
    [
        (("client",), ""),
        (("node",), "node"),
        (("node", "chain"), "chain"),
        (("keras",), "keras"),
        (("torch",), "torch"),
    ],
)
def test_images_install_all_that_the_project_asks_for(locks: tuple[str, ...], extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    names = {re.split(r"[\[<>=~!; ]", wanted)[0].lower().replace("_", "-") for wanted in asked}
    installed = {name for lock in locks for name in pins(ROOT / "docker" / "locks" / f"{lock}.txt")}
    assert not names - installed, "run `make image-locks`"
