"""`docker compose up`: a swarm in containers trains to one model, and leaves nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from compose_swarms import PROGRAMS
from images import ML, TAG, named

from examples.digits.compose_swarm import ComposeSwarm, ContainersFailed, docker
from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, program_environment
from swarm_callback.digest import digest_of_file

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(600), pytest.mark.usefixtures("images")]


@pytest.fixture(scope="module")
def small_digits(images: None) -> None:
    """In the place of the image with Keras, which takes minutes to build: the same paths, a few numbers."""
    steps = f"FROM {named(ML)}\nCOPY digits_keras.py /platform/digits/\n"
    build = ["docker", "build", "--quiet", "--tag", named("digits-keras"), "--file", "-", str(PROGRAMS)]
    done = subprocess.run(build, input=steps, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


async def test_the_demo_in_containers_reports_one_model_and_leaves_nothing(tmp_path: Path, small_digits: None) -> None:
    out = tmp_path / "demo-out"
    argv = (sys.executable, "-m", "examples.digits.compose_demo", "--no-build", f"--out={out}")
    demo = Child.start(Launch("demo", argv, tmp_path / "demo.log", program_environment(TAG=TAG), cwd=CODE_ROOT))
    try:
        assert await demo.wait() == 0, demo.tail(60)
    finally:
        await demo.stop()
    report = json.loads((out / "report.json").read_text())
    assert report["chain"] == "geth"
    assert report["digests"] == dict.fromkeys(("sl-1", "sl-2", "sl-3"), report["chain_digest"])
    assert {node: digest_of_file(out / f"{node}.safetensors").digest().hex() for node in report["digests"]} == report[
        "digests"
    ]
    assert report["rounds"] == len(report["history"])
    assert "swarm of all" in demo.log.read_text()
    project = f"swarm-demo-{demo.pid}"
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert await docker(*kind, "--quiet", "--filter", f"name={project}") == ""


@pytest.mark.parametrize(
    ("peers", "said"), [(9, "ERROR: PEERS is '9', and must be a number from 1 to 8."), (0, "ERROR: PEERS is '0'")]
)
async def test_more_peers_than_there_are_services_are_refused_in_one_sentence(
    tmp_path: Path, peers: int, said: str
) -> None:
    swarm = ComposeSwarm(f"swarm-refused-{os.getpid()}", tmp_path, peers, {"TAG": TAG})
    try:
        with pytest.raises(ContainersFailed):
            await swarm.up("license-server")
        assert said in await swarm.compose("logs", "--no-color", "prepare")
    finally:
        await swarm.down()
