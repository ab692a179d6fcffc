"""Runs the cases for Keras in separate processes: TensorFlow and PyTorch bring two LLVMs that cannot share a process.
TensorFlow's choice of Keras, and the backend of Keras 3, are made on import.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# The cases for Keras 3 whose result depends on the backend that holds the weights.
WHATEVER_IT_COMPUTES_WITH = (
    "trains_in_a_swarm or metrics_of_the_epoch or (round_trip and bfloat16) or state_of_the_optimizer "
    "or mixed_precision or phases or of_ones_own_that_replaces"
)
# The cases that hold for Keras 2 too, beside legacy_keras_cases.py: what a script may pass and do.
WHATEVER_KERAS_IT_IS_OF = (
    "legacy or longer_than_the_fit or loop_of_ones_own or replaces_the_final_model or forgets_the_model "
    "or without_an_end or does_not_take or first_compiled or for_each_class "
    "or can_be_read_again or states_and_random "
    "or normalization or shared_keras_layers or proximal or mixed_precision or phases or does_not_say"
)
# Keras itself causes this warning when it converts to numpy 2 arrays.
WARNING_OF_KERAS = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"


def run_cases(*arguments: str, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment, cwd=HERE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("keras_cases.py",), {}),
        (("legacy_keras_cases.py", "keras_cases.py", "-k", WHATEVER_KERAS_IT_IS_OF), {"TF_USE_LEGACY_KERAS": "1"}),
        (("legacy_keras_cases.py",), {}),
        (("keras_cases.py", "-k", WHATEVER_IT_COMPUTES_WITH, "-W", WARNING_OF_KERAS), {"KERAS_BACKEND": "jax"}),
        (("keras_cases.py", "-k", WHATEVER_IT_COMPUTES_WITH, "-W", WARNING_OF_KERAS), {"KERAS_BACKEND": "torch"}),
    ],
    ids=["3", "2 as tf.keras", "2 by its name", "3 on JAX", "3 on PyTorch"],
)
def test_every_case_for_keras_passes(arguments, environment):
    run_cases(*arguments, environment=environment)
