"""Bugs on purpose, to prove that the checker finds them: builds of nodes that no swarm runs but the tests'."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.chaos import liar
from tests.chaos.world import Build

ARTIFACTS_VARIABLE = "CHAOS_ARTIFACTS"

# What is put at the beginning of two functions of the contract, so that they refuse nothing.
_NO_FENCES = {
    "function _fence(State expected, uint64 givenRound, uint32 givenTerm) private view {": (
        "if (uint8(expected) < 255 && givenRound < type(uint64).max && givenTerm < type(uint32).max) return;"
    ),
    "function _onlyLeader(string calldata name) private view {": "if (bytes(name).length > 0) return;",
}
_NO_SIZE = {"function _agreeOnSize(uint64 size) private {": "if (size > 0) return;"}


def build_without_fences(directory: Path) -> Build:
    """Compiles a contract that takes results from anybody, of any round and term. Raises CompilationFailed."""
    return _build(directory, _NO_FENCES)


def build_without_sizes(directory: Path) -> Build:
    """Compiles a contract that takes results of any size. Raises CompilationFailed."""
    return _build(directory, _NO_SIZE)


def _build(directory: Path, bug: Mapping[str, str]) -> Build:
    from contracts import compile as compiler

    sources, artifacts = directory / "src", directory / "artifacts"
    shutil.copytree(compiler.SOURCES, sources)
    artifacts.mkdir()
    contract = sources / "TrainingContract.sol"
    text = contract.read_text()
    for head, first in bug.items():
        if text.count(head) != 1:
            raise ValueError(f"the contract has no '{head}' to plant a bug in")
        text = text.replace(head, f"{head}\n        {first}")
    contract.write_text(text)
    original, compiler.SOURCES = compiler.SOURCES, sources
    try:
        for name, artifact in compiler.compile_contracts().items():
            (artifacts / name).write_text(artifact)
    finally:
        compiler.SOURCES = original
    return Build(sn="tests.chaos.planted:take_artifacts", environment={ARTIFACTS_VARIABLE: str(directory)})


BUILD_THAT_TRUSTS = Build(sl="tests.chaos.planted:trust_everybody")


def take_artifacts() -> None:
    """In an SN, before it starts: its contracts are those of another directory."""
    from services.chain import abi

    directory = Path(os.environ.pop(ARTIFACTS_VARIABLE))
    abi.resources = SimpleNamespace(files=lambda _package: directory)  # type: ignore[assignment]
    abi.contract_abi.cache_clear()
    abi.all_errors.cache_clear()


def trust_everybody() -> None:
    """In an SL, before it starts: whatever digest a stream has, it is taken."""
    from services.errors import DigestMismatch
    from services.sl.peers import Peers

    if liar.VARIABLE in os.environ:
        liar.become()
    checked = Peers._fetch_from

    async def trusting(self: Peers, holder: Any, digest: str, *rest: Any) -> Any:
        _size, incoming, _moved = rest
        try:
            return await checked(self, holder, digest, *rest)
        except DigestMismatch:
            return incoming.commit()

    Peers._fetch_from = trusting  # type: ignore[method-assign]
