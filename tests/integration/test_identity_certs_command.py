"""`swarm certs`: nodes can use what it makes, and it says what it cannot make."""

import stat
from pathlib import Path

import pytest

from services.cli.main import main
from services.errors import NotOfOrganization
from services.identity.identity import Identity


def certs(*arguments: object) -> int:
    return main(["certs", *(str(argument) for argument in arguments)])


@pytest.fixture
def directory(tmp_path) -> Path:
    assert certs("ca", "--dir", tmp_path / "ca", "--organization", "Hospital A") == 0
    return tmp_path / "ca"


def test_files_it_makes_are_an_identity(directory, capsys):
    assert certs("issue", "--dir", directory, "--role", "sl", "--name", "sl-1", "--host", "h.example") == 0
    cert, key, cacert = (directory / name for name in ("sl-sl-1-cert.pem", "sl-sl-1-key.pem", "ca-cert.pem"))
    assert f"--cert {cert} --key {key} --cacert {cacert}" in capsys.readouterr().out
    assert Identity.load(cert=cert, key=key, cacert=cacert, expected_role="sl").name == "sl-1"
    assert [stat.S_IMODE((directory / name).stat().st_mode) for name in ("ca-key.pem", key.name)] == [0o600, 0o600]


def test_show_says_whose_certificate_it_is_and_until_when(directory, capsys):
    issue = ("issue", "--dir", directory, "--role", "sn", "--name", "sn-1", "--days", "3")
    assert certs(*issue, "--host", "h.example", "--host", "10.1.2.3", "--out", directory / "out") == 0
    assert certs("show", directory / "out" / "sn-sn-1-cert.pem") == 0
    shown = capsys.readouterr().out
    assert "spiffe://swarm.local/sn/sn-1, h.example, 10.1.2.3" in shown
    assert "(valid)" in shown
    assert "Hospital A" in shown


def test_show_says_whether_a_trust_file_accepts_it(directory, capsys):
    organization = "{name: a, trust_domain: swarm.local, cas: [ca-cert.pem], issues: {sl: ['a-*']}}"
    (directory / "trust.yaml").write_text(f"organizations: [{organization}]")
    for name, code in (("a-1", 0), ("b-1", NotOfOrganization.exit_code)):
        assert certs("issue", "--dir", directory, "--role", "sl", "--name", name, "--host", "h.example") == 0
        cert = directory / f"sl-{name}-cert.pem"
        assert certs("show", cert, "--trust", directory / "trust.yaml") == code
    printed = capsys.readouterr()
    assert "The trust file accepts it from a: sl a-1." in printed.out
    assert printed.err.startswith("ERROR: The certificate of sl b-1 is not accepted from a: it may not give this name")


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"--role": "boss"}, 2, "'boss' is not a role"),
        ({"--name": "a/b"}, 2, "'a/b' is not a node name"),
        ({"--days": "0"}, 2, "--days"),
        ({"--dir": "nowhere"}, 10, "nowhere/ca-cert.pem cannot be read"),
    ],
)
def test_what_cannot_be_issued_is_said_in_one_line_and_leaves_no_file(directory, capsys, changed, code, words):
    options = {"--dir": directory, "--role": "sl", "--name": "sl-1", "--host": "localhost"} | changed
    assert certs("issue", *(part for pair in options.items() for part in pair)) == code
    printed = capsys.readouterr().err
    assert printed.startswith("ERROR: ")
    assert words in printed
    assert printed.count("\n") == 1
    assert sorted(path.name for path in directory.iterdir()) == ["ca-cert.pem", "ca-key.pem"]


def test_existing_ca_is_kept_unless_forced(directory, capsys):
    before = (directory / "ca-key.pem").read_bytes()
    again = ("ca", "--dir", directory, "--organisation", "Hospital B")  # as older scripts spell it
    assert certs(*again) == 17
    assert "exists already and is not overwritten" in capsys.readouterr().err
    assert (directory / "ca-key.pem").read_bytes() == before
    assert certs(*again, "--force") == 0
    assert (directory / "ca-key.pem").read_bytes() != before
