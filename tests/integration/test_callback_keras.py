"""Runs the cases for Keras in processes of their own: TensorFlow and PyTorch bring two LLVMs that cannot share one, and
which Keras is that of TensorFlow is decided when it is imported.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


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
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert done.returncode == 0, done.stdout + done.stderr
