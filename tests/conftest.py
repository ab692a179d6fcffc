"""Shared by all tests: one real CA a run, certificates and identities of its nodes, a clean environment."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import parts
import pytest
import structlog
from hypothesis import settings

from services.identity.authority import Authority, IssuedFiles
from services.identity.identity import Identity
from services.runtime.settings import PREFIXES

pytest.register_assert_rewrite("executor_suite", "executor_building_suite")
# How long an example takes on a machine that does other work too says nothing of the code.
settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*parts): real parts that the test uses, by their names in parts.py")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    parts.require(item)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    parts.summarize(terminalreporter)


@dataclass
class Pki:
    """A CA in a directory of its own. ``identity`` gives the same object for the same node."""

    directory: Path
    authority: Authority
    _identities: dict[tuple[str, str], Identity] = field(default_factory=dict)

    @classmethod
    def create(cls, directory: Path, organization: str = "Test hospital") -> "Pki":
        return cls(directory, Authority.create(directory / "ca", organization))

    @property
    def cacert(self) -> Path:
        return self.authority.cacert

    def issue(
        self, role: str, name: str, hosts: list[str] | None = None, out_dir: Path | None = None, **validity: Any
    ) -> IssuedFiles:
        """New files at each call: a node may have several certificates, or one that is not valid."""
        out_dir = out_dir or self.directory / f"issued-{len(list(self.directory.iterdir()))}"
        return self.authority.issue(role, name, hosts or ["localhost", "127.0.0.1"], out_dir, **validity)

    def identity(self, role: str, name: str) -> Identity:
        if (role, name) not in self._identities:
            files = self.issue(role, name)
            self._identities[role, name] = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)
        return self._identities[role, name]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def foreign_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """The CA of another organization, which nodes of ``pki`` do not trust."""
    return Pki.create(tmp_path_factory.mktemp("foreign-pki"), "Another hospital")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the shell that runs the tests must not reach the nodes under test."""
    for name in list(os.environ):
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _logs_end_with_their_test() -> Iterator[None]:
    """A node in this process sends its events to the stdout it was started with, which a test may have captured."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in root.handlers[:]:
        if handler not in before:
            root.removeHandler(handler)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
