"""The executor PROCESS: local processes, through the real bubblewrap."""

import sys
from pathlib import Path

import pytest
from executor_suite import ExecutorSuite

from services.swop.executors.base import Executor
from services.swop.executors.process import LocalImage, ProcessExecutor

IMAGE = "user-env"


@pytest.mark.needs("bubblewrap")
class TestProcess(ExecutorSuite):
    image = IMAGE

    def connect(self, tmp_path: Path) -> Executor:
        return ProcessExecutor(tmp_path / "process", {IMAGE: LocalImage(Path(sys.executable))})
