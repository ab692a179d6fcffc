"""A whole swarm for a test: its plan, and a view that records what it shows."""

from pathlib import Path

import pytest
from local_swarms import Recorder, SwarmPlans


@pytest.fixture
def plans(tmp_path: Path) -> SwarmPlans:
    return SwarmPlans(tmp_path)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
