"""What `--chain auto` means."""

from pathlib import Path

import pytest

from services.chain import binary
from services.chain.factory import decide
from services.chain.genesis import make_genesis


@pytest.fixture
def geth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for a geth program; nothing else is on the PATH."""
    program = tmp_path / "bin" / "geth"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(binary, "BUILT_HERE", tmp_path / "tools" / "geth")
    return program


def install(program: Path) -> None:
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)


def test_a_new_chain_runs_on_geth_where_it_is_found(geth: Path, tmp_path: Path) -> None:
    assert decide("auto", tmp_path) == "embedded"
    install(geth)
    assert decide("auto", tmp_path) == "geth"


def test_the_geth_built_in_the_checkout_is_found_too(geth: Path, tmp_path: Path) -> None:
    install(binary.BUILT_HERE)

    assert decide("auto", tmp_path) == "geth"


@pytest.mark.parametrize(("file", "kind"), [("eth/genesis.json", "geth"), ("embedded/chain.sqlite", "embedded")])
def test_a_chain_that_is_there_is_kept(geth: Path, tmp_path: Path, file: str, kind: str) -> None:
    if kind == "embedded":
        install(geth)
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text("")

    assert decide("auto", tmp_path) == kind


@pytest.mark.parametrize("kind", ["geth", "embedded"])
def test_what_was_asked_for_is_taken(tmp_path: Path, kind: str) -> None:
    assert decide(kind, tmp_path) == kind  # type: ignore[arg-type]


def test_a_genesis_seals_on_demand_and_belongs_to_its_signers() -> None:
    signers = ["0x" + "Bb" * 20, "0x" + "aa" * 20]

    first, second = make_genesis(signers), make_genesis(signers)

    assert first["config"]["clique"]["period"] == 0
    assert first["extraData"] == "0x" + "00" * 32 + "aa" * 20 + "bb" * 20 + "00" * 65
    assert set(first["alloc"]) == {"aa" * 20, "bb" * 20}
    assert first["config"]["chainId"] != second["config"]["chainId"]


def test_it_looks_on_the_path_first(geth: Path) -> None:
    install(geth)
    install(binary.BUILT_HERE)

    assert binary.find_geth() == geth
    geth.unlink()
    assert binary.find_geth() == binary.BUILT_HERE
