"""The command line: what it offers, and one sentence for what it cannot use."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.main import main
from services.errors import ChainLibraryMissing

ROOT = Path(__file__).parents[2]
COMMANDS = ("sn", "sl", "license-server", "up", "status", "down", "certs", "version")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in text


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "certs"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"swarm {command} " in capsys.readouterr().out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.count(".") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["up"], "Missing option '--sl'"),
        (["up", "--sl", "three"], "Invalid value for '--sl'"),
        (["up", "--sl=three"], "Invalid value for '--sl'"),
        (["up", "--sl", "3", "--speed", "9"], "No such option: --speed"),
        (["sn", "--sn-api-port", "x"], "Invalid value for '--sn-api-port'"),
        (["up", "--sl", "0"], "--sl is not usable: a swarm needs at least one SL"),
        (["up", "--sl=0"], "--sl is not usable"),
        (["up", "--sl", "3", "--sn", "0"], "--sn is not usable: a swarm needs at least one SN"),
        (["up", "--sl", "3", "--chain", "besu"], "--chain is not usable: it is 'besu'"),
        (["up", "--sl", "3", "--sn-api-port", "99999"], "--sn-api-port is not usable: 99999 is not a port"),
    ],
)
def test_what_is_typed_wrong_is_said_and_ends_with_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("command", ["status", "down"])
def test_a_directory_without_a_swarm_is_one_sentence(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--dir", str(tmp_path)]) == 18
    error = capsys.readouterr().err
    assert error.startswith("ERROR: No swarm runs in ")
    assert error.count("\n") == 1


def test_ctrl_c_before_a_command_has_begun_ends_without_a_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("services.cli.commands.app", interrupted)
    assert main(["up", "--sl", "3"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("command", "loads"),
    [((sys.executable, "-m", "services.cli", "version"), "typer")]
    + [((sys.executable, str(script), "--help"), "subprocess") for script in sorted((ROOT / "scripts/bin").iterdir())],
    ids=lambda it: Path(it[1]).name if isinstance(it, tuple) else "",
)
def test_ctrl_c_while_a_command_is_loaded_ends_without_a_trace(
    tmp_path: Path, command: tuple[str, ...], loads: str
) -> None:
    (tmp_path / f"{loads}.py").write_text("import sys; print('loading', flush=True); sys.stdin.read()")
    where = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # As in a terminal: what is started in the background ignores Ctrl-C, and so would all that it starts.
    hears = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, env=where, text=True, **pipes, **hears) as loading:  # type: ignore[call-overload]
        assert loading.stdout.readline() == "loading\n"
        loading.send_signal(signal.SIGINT)
        assert loading.communicate(timeout=30) == ("", "")
    assert loading.returncode == 130


@pytest.mark.parametrize("command", ["sn", "swop"])
def test_an_installation_without_the_libraries_of_the_chain_says_how_to_get_them(command: str) -> None:
    program = (
        "import sys; sys.modules['eth_utils'] = sys.modules['eth_abi'] = sys.modules['eth_keys'] = None;"
        f"from services.cli.main import main; sys.exit(main(['{command}']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == ChainLibraryMissing.exit_code
    assert "This installation lacks eth_" in done.stderr and "swarm-learning[services]" in done.stderr
    assert "Traceback" not in done.stderr
