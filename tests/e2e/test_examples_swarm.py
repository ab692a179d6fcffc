"""Every example runs in a swarm of real nodes: one shared model, whose digest is on the chain. The short form."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from local_swarms import Recorder

from examples.demo import FRAMEWORKS
from services.local.plan import CODE_ROOT, Plan
from services.local.swarm import up
from swarm_callback.digest import digest_of_file

NODES = 2
SHORT = {"MAX_EPOCHS": "2", "PYTHONPATH": str(CODE_ROOT)}
FRAUD_SHARDS = CODE_ROOT.parent / "shared" / "data" / "fraud"

pytestmark = pytest.mark.timeout(300)  # programs that each import a framework, on a busy machine


def few_digits(directory: Path) -> Path:
    """A file of the form of mnist.npz, of random pictures: what is tested is that the example runs."""
    random = np.random.default_rng(0)
    path = directory / "mnist.npz"
    pictures, digits = random.integers(0, 256, (300, 28, 28), np.uint8), random.integers(0, 10, 300, np.uint8)
    np.savez(path, x_train=pictures, y_train=digits, x_test=pictures[:50], y_test=digits[:50])
    return path


IN_A_SWARM = (("mnist", "torch"), ("fraud", "keras"), ("cancer", "sklearn"), ("xray", "lightning"), ("text", "hf"))
ALONE = tuple(
    (example, framework)
    for example, many in FRAMEWORKS.items()
    for framework in many
    if example != "digits" and (example, framework) not in IN_A_SWARM
)


@pytest.mark.parametrize(("example", "framework"), IN_A_SWARM)
async def test_an_example_ends_with_one_model_on_every_node(
    tmp_path: Path, recorder: Recorder, example: str, framework: str
) -> None:
    out = tmp_path / "out"
    environment = SHORT | {"OUTPUT_DIR": str(out), "MNIST_FILE": str(few_digits(tmp_path))}
    command = (sys.executable, "-m", f"examples.{example}.{example}_{framework}")
    plan = Plan(tmp_path / "swarm", NODES, "embedded", command, environment=environment)
    assert await up(plan, recorder, asyncio.Event()), "\n".join(recorder.lines)
    models = sorted(out.glob("node-*.safetensors"))
    assert [digest_of_file(path).digest() for path in models] == [recorder.last.last_result.digest] * NODES
    for path in out.glob("node-*.json"):
        assert 0 <= json.loads(path.read_text())["accuracy"] <= 1


@pytest.mark.parametrize(("example", "framework"), ALONE)
def test_an_example_runs_with_its_other_framework(tmp_path: Path, example: str, framework: str) -> None:
    variables = SHORT | {"MNIST_FILE": str(few_digits(tmp_path)), "OUTPUT_DIR": str(tmp_path)}
    done = run_alone(f"{example}.{example}_{framework}", tmp_path, variables)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "node-0.json").read_text())["framework"] == framework


def run_alone(module: str, home: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "SWARM_LOOPBACK": "true", "HOME": str(home)} | variables
    command = [sys.executable, "-m", f"examples.{module}"]
    return subprocess.run(command, cwd=CODE_ROOT, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.skipif(not FRAUD_SHARDS.is_dir(), reason="the real shards are not part of this project")
def test_the_real_shards_of_fraud_are_read_as_they_are() -> None:
    from examples.fraud import data

    shards, test, _ = data._read(str(FRAUD_SHARDS))
    assert [(len(fraud), int(fraud.sum())) for _, fraud in shards] == [(3500, 2), (4000, 5), (2500, 37), (989, 488)]
    assert test[0].shape == (len(test[1]), data.FEATURES)


@pytest.mark.parametrize(
    ("module", "variable", "value", "words"),
    [
        ("fraud.fraud_keras", "FRAUD_DATA", "/nowhere", "there is no node-1/train.csv"),
        ("mnist.mnist_torch", "MNIST_FILE", "/nowhere", "which is no file"),
        ("xray.xray_lightning", "XRAY_DATA", "/nowhere", "must have pictures in normal"),
    ],
)
def test_data_that_is_not_there_is_a_sentence(
    tmp_path: Path, module: str, variable: str, value: str, words: str
) -> None:
    done = run_alone(module, tmp_path, {variable: value})
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
