"""Fixtures for tests of several modules."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from callback_swarm import Serve, serving


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A function that lets a Swarm serve the next session of this process."""
    with serving(tmp_path, monkeypatch) as serve:
        yield serve


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks of this process train alone."""
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
