"""The digits example: its shards differ, and its script runs alone, unchanged."""

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def data():
    spec = importlib.util.spec_from_file_location("digits_data", EXAMPLE / "data.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def rows(examples) -> Counter:
    pictures, digits = examples
    return Counter((picture.tobytes(), int(digit)) for picture, digit in zip(pictures, digits, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_shards_are_equal_disjoint_and_nearly_all(data, count):
    whole = data.load(None, count)
    shards = [data.load(index, count) for index in range(count)]
    sizes = {len(shard.train[1]) for shard in shards}
    assert len(sizes) == 1
    together = sum((rows(shard.train) for shard in shards), Counter())
    assert together <= rows(whole.train)
    assert len(whole.train[1]) - together.total() < count


def test_each_of_three_nodes_mostly_sees_its_own_third_of_the_digits(data):
    for index in range(3):
        digits = data.load(index, 3).train[1]
        assert 0.8 < np.mean(digits % 3 == index) < 1
        assert set(digits) == set(range(10))


def test_every_node_has_the_same_validation_and_test_set_and_trains_on_neither(data):
    first, *others = (data.load(index, 3) for index in range(3))
    for other in others:
        assert rows(other.test) == rows(first.test)
        assert rows(other.validation) == rows(first.validation)
    for shard in (first, *others):
        assert not rows(shard.train) & (rows(shard.test) | rows(shard.validation))


def test_an_epoch_has_as_many_steps_on_a_shard_as_on_everything(data):
    for digits in (data.load(None, 3), data.load(0, 3), data.load(4, 5)):
        assert -(-len(digits.train[1]) // digits.batch_size) == data.STEPS_PER_EPOCH


@pytest.mark.parametrize("script", ["digits_torch.py", "digits_keras.py"])
def test_the_script_runs_alone_and_leaves_its_parameters(tmp_path, script):
    env = os.environ | {"SWARM_LOOPBACK": "true", "MAX_EPOCHS": "1", "OUTPUT_DIR": str(tmp_path / "out")}
    done = subprocess.run(
        [sys.executable, EXAMPLE / script], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads((tmp_path / "out" / "node-0.json").read_text())["accuracy"] < 1
    assert len(safetensors.numpy.load_file(tmp_path / "out" / "node-0.safetensors")) == 4
    assert len((EXAMPLE / script).read_text().splitlines()) < 80
