"""The committed artifacts are what the sources compile to, and fit a chain."""

import json

import pytest

from contracts import compile as compiler

LARGEST_CONTRACT_BYTES = 24_576  # EIP-170


@pytest.fixture(scope="module")
def compiled() -> dict[str, str]:
    """Compiled once: it takes half a minute."""
    return compiler.compile_contracts()


@pytest.mark.needs("node")
def test_recompiling_gives_the_committed_artifacts(compiled: dict[str, str]) -> None:
    assert compiler.differing_artifacts(compiled) == []


@pytest.mark.needs("node")
def test_the_check_says_which_artifact_differs(
    compiled: dict[str, str], capsys: pytest.CaptureFixture[str], stale_artifact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "compile_contracts", lambda: compiled)
    assert compiler.main(["--check"]) == 1
    assert stale_artifact in capsys.readouterr().err


@pytest.mark.parametrize("name", compiler.CONTRACTS)
def test_a_contract_fits_a_chain(name: str) -> None:
    artifact = json.loads((compiler.ARTIFACTS / f"{name}.json").read_text())
    assert 0 < len(artifact["bytecode"]) // 2 < LARGEST_CONTRACT_BYTES


@pytest.fixture
def stale_artifact(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """Artifacts in another place, one of them older than its source."""
    copy = tmp_path_factory.mktemp("artifacts")
    for name in compiler.CONTRACTS:
        (copy / f"{name}.json").write_text((compiler.ARTIFACTS / f"{name}.json").read_text())
    (copy / "TrainingContract.json").write_text("{}")
    monkeypatch.setattr(compiler, "ARTIFACTS", copy)
    return "TrainingContract.json"
