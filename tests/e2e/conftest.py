"""A whole swarm for a test: its plan, a view that records what it shows, and the images of this checkout."""

from pathlib import Path

import pytest
from images import build
from local_swarms import Recorder, SwarmPlans


@pytest.fixture
def plans(tmp_path: Path) -> SwarmPlans:
    return SwarmPlans(tmp_path)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def images() -> None:
    """Built on the stand-in for the public base."""
    build()
