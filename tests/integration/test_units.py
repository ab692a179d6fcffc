"""`swarm install-service`: units that systemd accepts, that confine a node, and with which it starts."""

import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from services.cli.main import main
from services.identity.certificates import read_key
from services.local.process import Child, Launch, node_environment
from services.units.installing import read_settings

OWNER = pwd.getpwuid(os.getuid()).pw_name  # owner of the files here
NODES = {"sn": "sn", "swop": "swop", "license-server": "license"}
OWN_SETTINGS = {
    "sn": "THIS_NODE_IP=10.1.2.3\nSN_I_AM_SENTINEL=true\nSWARM_DATA_DIR=data/node",
    "swop": "SN_NODE_IP=10.1.2.3\nUSR_DIR=usr dir\n",
    "license-server": "SWARM_LICENSE_PORT=0\nSWARM_LICENSE_HOST=127.0.0.1\nSWARM_LICENSE_DATABASE=",
}
MOST_EXPOSED = {"sn": 25, "license-server": 25, "swop": 45}  # tenths, as rated by systemd-analyze; 100: no protection


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory to which paths in settings are relative."""
    monkeypatch.chdir(tmp_path)
    # Other users may have no access to where the tests run; the unit's text is the same.
    monkeypatch.setattr("services.units.installing._program", lambda _: Path(sys.executable).parent / "swarm")
    return tmp_path


def settings_of(pki: Any, node: str, more: str = "") -> str:
    """Writes the settings of a node, with its identity."""
    role = NODES[node]
    files = pki.issue(role, f"{role}-1")
    identity = {"SWARM_ID_CERT": files.cert, "SWARM_ID_KEY": files.key, "SWARM_ID_CACERT": files.cacert}
    lines = ["# of a kit", "", *(f"{name}={value}" for name, value in identity.items()), more or OWN_SETTINGS[node]]
    Path("node.env").write_text("\n".join(lines))
    return "node.env"


def with_trust(settings: str) -> str:
    """Replaces the CA in the settings by a trust file."""
    text = Path(settings).read_text()
    cacert = Path(re.findall("SWARM_ID_CACERT=(.*)", text)[0])
    trust = Path("trust")
    trust.mkdir(exist_ok=True)
    shutil.copyfile(cacert, trust / "ca.pem")
    roles = {role: ["*"] for role in NODES.values()}
    one = {"name": "a", "trust_domain": "swarm.local", "cas": ["ca.pem"], "issues": roles}
    (trust / "trust.yaml").write_text(yaml.safe_dump({"organizations": [one]}))
    Path(settings).write_text(re.sub("SWARM_ID_CACERT=.*", "SWARM_ID_TRUST=trust/trust.yaml", text))
    return settings


def encrypt(settings: str) -> None:
    """Encrypts the key that the settings name."""
    key = Path(re.findall("SWARM_ID_KEY=(.*)", Path(settings).read_text())[0])
    Path("passphrase").write_text("of this node\n")
    with_it = BestAvailableEncryption(b"of this node")
    key.write_bytes(read_key(key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, with_it))
    with Path(settings).open("a") as file:
        file.write("\nSWARM_ID_KEY_PASSPHRASE_FILE=passphrase\n")


def installed(pki: Any, node: str, *options: str, trust: bool = False, encrypted: bool = False) -> tuple[Path, Path]:
    """Unit and settings."""
    settings = settings_of(pki, node)
    if encrypted:
        encrypt(settings)
    if trust:
        with_trust(settings)
        options = (*options, "--user", OWNER)  # other users may be unable to read where the tests run
    user = ["--user", OWNER, "--docker"] if node == "swop" else []
    assert main(["install-service", node, "--settings", settings, "--root", "r", *user, *options]) == 0
    name = f"{NODES[node]}-1"
    return Path(f"r/etc/systemd/system/swarm-{name}.service"), Path(f"r/etc/swarm-learning/{name}.env")


@pytest.mark.needs("systemd")
@pytest.mark.parametrize("node", NODES)
def test_systemd_takes_the_unit_and_finds_it_closed(pki: Any, kit: Path, node: str) -> None:
    unit, settings = installed(pki, node, trust=node == "swop")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED[node]}", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert rated.returncode == 0, rated.stdout[-300:]
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600


def test_a_unit_restarts_what_fails_and_its_key_is_read_by_systemd_alone(pki: Any, kit: Path) -> None:
    unit, settings = installed(pki, "sn")
    text = unit.read_text()
    for line in ("Restart=on-failure", "DynamicUser=yes", "StandardOutput=journal", "RestartPreventExitStatus=2"):
        assert line in text.splitlines()
    assert read_settings(settings) == {"THIS_NODE_IP": "10.1.2.3", "SN_I_AM_SENTINEL": "true"}
    assert "SWARM_DATA_DIR=%S/swarm-learning/sn-1" in text
    assert "key.pem:/" in text
    swop, settings = installed(pki, "swop")
    assert read_settings(settings)["USR_DIR"] == str(kit / "usr dir")
    assert {f"User={OWNER}", "SupplementaryGroups=docker", "KillMode=process"} <= set(swop.read_text().splitlines())


@pytest.mark.parametrize("trust", [False, True])
async def test_a_node_starts_with_what_its_unit_hands_it(pki: Any, kit: Path, trust: bool) -> None:
    unit, settings = installed(pki, "license-server", trust=trust, encrypted=trust)
    text = unit.read_text()
    assert (f"SWARM_ID_KEY_PASSPHRASE_FILE={kit}/passphrase" in text) == trust
    assert (f"SWARM_ID_TRUST={kit}/trust/trust.yaml" in text, "cas.pem" in text) == (trust, not trust)
    assert ("LoadCredential=" in text) == (not trust)  # the user can read them, and sees replacements
    credentials = kit / "credentials"
    credentials.mkdir()
    for name, source in re.findall(r"^LoadCredential=([^:]+):(.*)$", text, re.MULTILINE):
        shutil.copyfile(source, credentials / name)
    state = kit / "state"
    (state / "swarm-learning" / "license-1").mkdir(parents=True)
    words = " ".join(re.findall(r"^Environment=(.*)$", text, re.MULTILINE)).split()
    told = dict(word.replace("%d", str(credentials)).replace("%S", str(state)).split("=", 1) for word in words)
    command = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)[0].split()
    environment = node_environment(**{**told, **read_settings(settings)})
    child = Child.start(Launch("license-1", tuple(command), kit / "log", environment, cwd=kit))
    try:
        assert (await child.ready())["port"]
        assert list((state / "swarm-learning" / "license-1").iterdir())
    finally:
        assert not await child.stop()


def test_a_unit_of_somebody_else_is_left_alone(pki: Any, kit: Path, capsys: Any) -> None:
    unit, _ = installed(pki, "sn")
    installed(pki, "sn")
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert main(["install-service", "sn", "--settings", settings_of(pki, "sn"), "--root", "r"]) == 17
    assert "exists already" in capsys.readouterr().err
    assert "/bin/true" in unit.read_text()


@pytest.mark.parametrize(
    ("node", "more", "words"),
    [
        ("sn", "THIS_NODE_IP 10.1.2.3", "node.env, line 6 is not usable: NAME=VALUE is needed"),
        ("sn", "THIS_NODE_IP=10.1.2.3", "give --sentinel"),
        ("sn", "THIS_NODE_IP=10.1.2.3\nSN_I_AM_SENTINEL=yes\nSN_API_SERVER_PROT=1", "SN_API_SERVER_PROT"),
        ("license-server", "SWARM_LICENSE_PORT=x", "SWARM_LICENSE_PORT"),
        ("license-server", "SWARM_ID_CAPATH=/etc", "give SWARM_ID_CACERT instead"),
        ("license-server", "SWARM_ID_TRUST=/etc/trust.yaml", "it takes the place of --cacert and --capath"),
        ("swop", "USR_DIR=/", "a SWOP starts programs"),
    ],
)
def test_what_would_not_start_is_not_installed(  # type: ignore[no-untyped-def]
    pki, kit: Path, capsys: Any, *, node: str, more: str, words: str
) -> None:
    assert main(["install-service", node, "--settings", settings_of(pki, node, more), "--root", "r"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ERROR: ")
    assert words in said
    assert said.count("\n") == 1
    assert not Path("r").exists()


def test_other_nodes_users_and_identities_are_refused(pki: Any, foreign_pki: Any, kit: Path, capsys: Any) -> None:
    settings = settings_of(pki, "sn", "THIS_NODE_IP=10.1.2.3\nSN_I_AM_SENTINEL=true")
    for words, node, more, code in (
        ("'sl' is none of sn, swop, license-server", "sl", [], 2),
        ("there is no user 'nobody-at-all'", "sn", ["--user", "nobody-at-all"], 2),
        ("THIS_NODE_IP", "license-server", [], 2),
        ("missing.env cannot be read", "sn", ["--settings", "missing.env"], 21),
    ):
        code_of = main(["install-service", node, "--settings", settings, "--root", "r", *more])
        assert (code_of, words in capsys.readouterr().err) == (code, True), words
    settings_of(pki, "sn")
    assert main(["install-service", "sn", "--settings", with_trust(settings), "--root", "r"]) == 2
    assert "the user that systemd makes may not read" in capsys.readouterr().err
    stranger = foreign_pki.issue("sn", "sn-1")
    settings_of(pki, "swop", OWN_SETTINGS["sn"])
    assert main(["install-service", "sn", "--settings", settings, "--root", "r"]) == 10
    assert "has the role swop" in capsys.readouterr().err
    settings_of(pki, "sn")
    text = Path(settings).read_text()
    Path(settings).write_text(re.sub("SWARM_ID_KEY=.*", f"SWARM_ID_KEY={stranger.key}", text))
    assert main(["install-service", "sn", "--settings", settings, "--root", "r"]) == 10
    assert "does not belong to the certificate" in capsys.readouterr().err
    assert not Path("r").exists()
