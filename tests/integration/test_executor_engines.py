"""The executors of container engines: Docker and Podman, the real ones."""

from pathlib import Path

import pytest
from executor_building_suite import BuildingSuite
from executor_suite import ExecutorSuite
from parts import BASE_IMAGE

from services.swop.executors.base import Executor
from services.swop.executors.docker import DockerExecutor
from services.swop.executors.podman import PodmanExecutor


@pytest.mark.needs("docker")
class TestDocker(ExecutorSuite, BuildingSuite):
    image = BASE_IMAGE

    def connect(self, tmp_path: Path) -> Executor:
        return DockerExecutor()


@pytest.mark.needs("podman")
class TestPodman(ExecutorSuite, BuildingSuite):
    image = BASE_IMAGE

    def connect(self, tmp_path: Path) -> Executor:
        return PodmanExecutor()
