"""Nodes from the command line: faults in their input are reported in one sentence on stderr and by a specific exit
code.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.main import main
from services.errors import IdentityError, LicenseServerUnreachable, SettingsError, SNUnreachable
from services.local.process import node_environment

NODES = {
    "sn": ["sn", "--sentinel", "--host-ip", "127.0.0.1"],
    "sl": ["sl", "--host-ip", "127.0.0.1"],
    "license-server": ["license-server"],
}


def said(arguments: list[str], exit_code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that ends with ``exit_code``."""
    assert main(arguments) == exit_code
    error = capsys.readouterr().err
    assert error.startswith("ERROR: ")
    assert error.count("\n") == 1
    return error


def identity(pki, role: str, name: str = "node") -> list[str]:  # type: ignore[no-untyped-def]
    files = pki.issue(role, name)
    return ["--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert)]


@pytest.mark.parametrize("node", NODES)
def test_a_node_without_a_certificate_says_so(node: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No identity specified: --cert (SWARM_ID_CERT)" in said(NODES[node], IdentityError.exit_code, capsys)


@pytest.mark.parametrize(("node", "role"), [("sn", "sl"), ("sl", "admin"), ("license-server", "sn")])
def test_a_node_with_the_certificate_of_another_role_says_so(  # type: ignore[no-untyped-def]
    node: str, role: str, pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*NODES[node], *identity(pki, role), "--data-dir", str(tmp_path)]
    assert f"node has the role {role}, but" in said(arguments, IdentityError.exit_code, capsys)


def test_a_node_without_a_license_server_says_so(  # type: ignore[no-untyped-def]
    pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*NODES["sn"], *identity(pki, "sn"), "--data-dir", str(tmp_path), "--apls-port", "1"]
    expected = "The license server 127.0.0.1:1 cannot be reached"
    assert expected in said(arguments, LicenseServerUnreachable.exit_code, capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sl"], "give --host-ip"),
        (["sn", "--sentinel"], "give --host-ip"),
        (["sn", "--host-ip=127.0.0.1"], "give --sentinel"),
        ([*NODES["sn"], "--chain=besu"], "'auto', 'geth' or 'embedded'"),
        ([*NODES["sn"], "--sn-api-port=70000"], "less than or equal to 65535"),
        ([*NODES["sl"], "--sl-fs-port", "-1"], "greater than or equal to 0"),
        ([*NODES["license-server"], "--port=70000"], "less than or equal to 65535"),
        ([*NODES["license-server"], "--seats=SL"], "is not like SN=1,SL=2"),
        ([*NODES["sl"], "--log-format=xml"], "'human' or 'json'"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in said(arguments, SettingsError.exit_code, capsys)


def test_a_mistyped_variable_is_answered_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SL_FS_PROT", "30305")
    assert "Did you mean SL_FS_PORT?" in said(NODES["sl"], SettingsError.exit_code, capsys)


def test_a_process_ends_with_the_exit_code_and_without_a_traceback() -> None:
    argv = [sys.executable, "-m", "services.cli", *NODES["sl"]]
    ended = subprocess.run(argv, env=node_environment(), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == IdentityError.exit_code
    assert ended.stderr.startswith("ERROR: No identity specified")
    assert "Traceback" not in ended.stderr


def test_certs_made_by_the_command_are_good_for_a_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = ["--dir", str(tmp_path)]
    assert main(["certs", "ca", *directory, "--organization=Here"]) == 0
    assert main(["certs", "issue", *directory, "--role", "sl", "--name", "sl-9", "--host", "127.0.0.1"]) == 0
    capsys.readouterr()
    files = [f"--{kind}={tmp_path / f'sl-sl-9-{kind}.pem'}" for kind in ("cert", "key")]
    arguments = [
        *NODES["sl"],
        *files,
        f"--cacert={tmp_path / 'ca-cert.pem'}",
        f"--data-dir={tmp_path}",
        "--sn-api-port=1",
    ]
    assert "The SN at 127.0.0.1:1 cannot be reached" in said(arguments, SNUnreachable.exit_code, capsys)


@pytest.mark.parametrize("command", [["org", "list"], ["audit"]])
def test_a_command_that_asks_an_sn_prints_nothing_but_its_answer(  # type: ignore[no-untyped-def]
    command: list[str], pki, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*command, "--json", *identity(pki, "admin"), "--sn-ip", "127.0.0.1", "--sn-api-port", "1"]
    assert main(arguments) == SNUnreachable.exit_code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("ERROR: The SN at 127.0.0.1:1 cannot be reached") and told.err.count("\n") == 1


@pytest.mark.parametrize("output", ["stdout", "stderr"])
def test_a_node_whose_log_is_on_a_full_disk_ends_with_its_own_exit_code(  # type: ignore[no-untyped-def]
    output: str, pki, tmp_path: Path
) -> None:
    arguments = [*NODES["sn"], *identity(pki, "sn"), "--data-dir", str(tmp_path), "--apls-port", "1"]
    kept = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "services.cli", *arguments]
        done = subprocess.run(command, env=node_environment(), check=False, text=True, **(kept | {output: full}))
    assert done.returncode == LicenseServerUnreachable.exit_code
    assert output == "stderr" or done.stderr.startswith("ERROR: The license server 127.0.0.1:1")
