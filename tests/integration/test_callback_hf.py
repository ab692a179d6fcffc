"""Runs the cases for Hugging Face in a separate process: its libraries warn when imported."""

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("hf_cases.py")


@pytest.mark.timeout(300)
def test_every_case_for_hugging_face_passes():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
