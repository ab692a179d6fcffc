"""Runs the cases for Keras in processes of their own: TensorFlow and PyTorch bring two LLVMs that cannot share one, and
which Keras is that of TensorFlow, and what Keras 3 computes with, is decided when it is imported.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# Of the cases for Keras 3: all of a training, and what depends on where its weights live.
WHATEVER_IT_COMPUTES_WITH = (
    "trains_in_a_swarm or training_of_the_swarm_is_over or not_built or metrics_of_the_epoch or loopback_changes_nothing "
    "or (round_trip and not float64) or other_state or normalization or state_of_the_optimizer or mixed_precision "
    "or examples_are_counted"
)
# Which Keras itself causes in all that becomes an array of numpy 2.
WARNING_OF_KERAS = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"


def run_cases(cases: str, *arguments: str, **environment: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(HERE / cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("cases", "environment"),
    [
        ("keras_cases.py", {}),
        ("legacy_keras_cases.py", {"TF_USE_LEGACY_KERAS": "1"}),
        ("legacy_keras_cases.py", {}),
    ],
)
def test_every_case_for_keras_passes(cases, environment):
    run_cases(cases, **environment)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_keras_trains_in_a_swarm_whatever_it_computes_with(backend):
    run_cases("keras_cases.py", "-k", WHATEVER_IT_COMPUTES_WITH, "-W", WARNING_OF_KERAS, KERAS_BACKEND=backend)
