"""Runs the cases for PyTorch Lightning in a separate process: it warns during training."""

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("lightning_cases.py")


@pytest.mark.timeout(300)
def test_every_case_for_lightning_passes():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
