"""The script of a user, examples/run-with-scripts, from certificates to equal models, with Docker and with Podman.

Takes a minute and more, and so it is no part of `make test`: `make test-scripts` runs it.
"""

import os
import random
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import ML, NODES, ROOT, TAG, named
from parts import PODMAN_SOCKET

from swarm_callback.digest import digest_of_file
from tests.free_ports import free_port

PROGRAMS = Path(__file__).parent / "programs"
ENDS_WITHIN_S = 400

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.needs("docker")), "podman"])
def engine(request: pytest.FixtureRequest, images: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the images of this checkout, which Docker has built."""
    if request.param == "podman":
        if PODMAN_SOCKET:
            monkeypatch.setenv("CONTAINER_HOST", PODMAN_SOCKET)
        with subprocess.Popen(["docker", "save", *map(named, (*NODES, ML))], stdout=subprocess.PIPE) as saved:
            subprocess.run(["podman", "load"], stdin=saved.stdout, capture_output=True, check=True)
        assert saved.returncode == 0
    return str(request.param)


@pytest.fixture
def settings(engine: str) -> Iterator[dict[str, str]]:
    """As a user gives them in the environment; what a run leaves on purpose goes again."""
    swarm = f"scripts-{secrets.token_hex(4)}"
    yield {
        "ENGINE": engine,
        "TAG": TAG,
        "ML_IMAGE": named(ML),
        "SWARM": swarm,
        "SUBNET": f"10.{random.randint(100, 250)}.{random.randint(0, 255)}",
        "APLS_PORT": str(free_port()),
        "CLIENT_VOLUME": f"{swarm}-lib",
        "USER_IMAGE": f"{swarm}-env",
        "PROGRAM_DIR": str(PROGRAMS),
        "PROGRAM": "train.py well /out 3",
    }
    for words in (["volume", "rm", "--force", f"{swarm}-lib"], ["image", "rm", "--force", f"{swarm}-env"]):
        subprocess.run([engine, *words], capture_output=True, check=False)


def train(example: str, settings: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "examples" / "run-with-scripts", example],
        cwd=directory, env=os.environ | settings, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=ENDS_WITHIN_S,
    )  # fmt: skip


def left_of(settings: dict[str, str]) -> list[str]:
    asked = (["ps", "--all", "--format", "{{.Names}}"], ["volume", "ls", "-q"], ["network", "ls", "-q"])
    listed = [
        subprocess.run([settings["ENGINE"], *words], capture_output=True, text=True, check=True).stdout.split()
        for words in asked
    ]
    return [name for names in listed for name in names if settings["SWARM"] in name]


def test_two_hosts_build_an_image_and_train_to_one_model_by_the_scripts(
    settings: dict[str, str], tmp_path: Path
) -> None:
    done = train("mnist", settings, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("STATE : COMPLETE") == 2, done.stdout  # the build and the training
    models = list((tmp_path / "workspace" / "mnist" / "swop" / "out").glob("*.safetensors"))
    digests = {digest_of_file(model).digest().hex() for model in models}
    assert (len(models), len(digests)) == (2, 1)
    assert f"digest {digests.pop()[:16]}" in done.stdout  # it is that of the chain
    assert left_of(settings) == [f"{settings['SWARM']}-lib"]


def test_a_program_that_fails_ends_the_script_and_leaves_nothing(settings: dict[str, str], tmp_path: Path) -> None:
    done = train("digits", settings | {"PROGRAM": "/app/train.py fail /out 3"}, tmp_path)
    assert done.returncode != 0
    assert "The data of this node are missing" in done.stdout + done.stderr
    assert left_of(settings) == [f"{settings['SWARM']}-lib"]


def test_a_port_that_is_taken_is_one_sentence_and_nothing_is_left(settings: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("", int(settings["APLS_PORT"]))):
        done = train("mnist", settings, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (22, 1), done.stderr
    assert done.stderr.startswith(f"ERROR: Port {settings['APLS_PORT']} of this host")
    assert left_of(settings) == [f"{settings['SWARM']}-lib"]
