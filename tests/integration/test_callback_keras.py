"""Runs the cases for Keras in a process of their own: TensorFlow and PyTorch bring two LLVMs that cannot share one."""

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("keras_cases.py")


@pytest.mark.timeout(300)
def test_every_case_for_keras_passes():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
