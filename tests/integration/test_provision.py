"""`swarm provision`: organizations that know each other only by one file train together from their kits."""

import asyncio
import contextlib
import stat
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from kits import Site, node, own_ca, swarm, write_project
from revoking import revocation_list
from sl_swarm import ML

from services.cli.main import main
from services.errors import NotOfOrganization, PeerNotAccepted
from services.identity.authority import Authority
from services.identity.certificates import read_chain
from services.identity.identity import Identity
from services.identity.peers import read_trust
from services.local.process import Child
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient

EXIT_WITHIN_S = 60
REPLACE = (
    "Where trust/ has changed, each organization puts its new files in place. Its nodes take them over for connections "
    "that are made afterwards, and refuse what is new until then."
)


@contextlib.asynccontextmanager
async def stopped_at_the_end() -> Any:
    """Collects children, and stops the last one first."""
    children: list[Child] = []
    try:
        yield children
    finally:
        for child in reversed(children):
            assert not await child.stop(), f"{child.name} had to be killed:\n{child.tail()}"


@pytest.mark.needs("geth")
async def test_two_organizations_with_cas_of_their_own_train_and_a_third_is_refused(tmp_path: Path) -> None:
    cas = {name: own_ca(tmp_path, name) for name in ("a", "b", "c")}
    nodes = {
        "a": [node("license-1", "license"), node("sn-1", "sn"), node("sl-1", "sl")],
        "b": [node("sn-2", "sn"), node("sl-2", "sl")],
        "c": [node("sl-3", "sl")],
    }
    members = [{"name": name, "ca": cas[name], "nodes": nodes[name]} for name in nodes]
    project = write_project(tmp_path / "flu.yaml", *members[:2])
    swarm("provision", project, "--encrypt")
    elsewhere = write_project(tmp_path / "other.yaml", *members)  # a file that a and b have never seen
    swarm("provision", elsewhere, "--encrypt")
    a, b = (Site.unpack(project, name, Path(cas[name]).parent) for name in ("a", "b"))
    c = Site.unpack(elsewhere, "c", Path(cas["c"]).parent)
    for site in (a, b, c):
        site.certify()
    async with stopped_at_the_end() as children:
        for site, name in ((a, "license-1"), (a, "sn-1"), (b, "sn-2"), (a, "sl-1"), (b, "sl-2")):
            children.append(site.start(name))
            await children[-1].ready()
        stranger = c.start("sl-3")
        children.append(stranger)
        model = {"w": np.zeros(4, np.float32)}
        programs = [
            ML(*site.channel(name), model, lambda arrays, _: arrays, min_peers=2)
            for site, name in ((a, "sl-1"), (b, "sl-2"))
        ]
        digests = await asyncio.gather(*(program.run() for program in programs))
        assert len(set(digests)) == 1
        async with asyncio.timeout(EXIT_WITHIN_S):
            assert await stranger.wait() == PeerNotAccepted.exit_code
        assert "ERROR: " in stranger.tail()
        assert "CA" in stranger.tail()
        for role, name in (("sl", "sl-1"), ("sn", "sn-3")):  # a node of the other organization, and an unknown one
            await _is_refused(b, role, name, at_port=nodes["a"][1]["port"])


async def _is_refused(site: Site, role: str, name: str, *, at_port: int) -> None:
    """A node is refused by an SN, although the site's CA has issued its certificate."""
    assert site.ca is not None
    files = Authority.open(site.ca).issue(role, name, ["localhost"], site.kit / "beyond")
    trust = replace(read_trust(None, None, site.kit / "trust" / "trust.yaml"), organizations=None)
    identity = Identity(role=role, name=name, fingerprint="", cert=files.cert, key=files.key, trust=trust)
    async with SNClient(f"127.0.0.1:{at_port}", identity) as client:
        with pytest.raises(NotOfOrganization, match=f"of {role} {name} is not accepted from b: it may not give this"):
            await client.network.ListNodes(pb.ListNodesRequest())


def test_a_kit_holds_what_is_its_organizations_and_no_key_that_was_made_there(tmp_path: Path) -> None:
    nodes = [node("license-1", "license"), node("sn-1", "sn"), node("sl-1", "sl")]
    owner = {"name": "own", "ca": own_ca(tmp_path, "own"), "nodes": nodes}
    guest = {"name": "guest", "nodes": [node("sl-2", "sl"), {"name": "boss", "role": "admin"}]}
    project = write_project(tmp_path / "flu.yaml", owner, guest)
    swarm("provision", project, "--zip")
    made = tmp_path / "flu"
    swarm("certs", "request", made / "kits" / "own" / "certs" / "requests.yaml")
    (made / "own.zip").unlink()
    swarm("provision", project, "--zip")
    with zipfile.ZipFile(made / "own.zip") as archive:
        assert not [name for name in archive.namelist() if name.endswith("-key.pem")]
        assert "PRIVATE KEY" not in "".join(archive.read(name).decode() for name in archive.namelist())
    with zipfile.ZipFile(made / "guest.zip") as archive:
        keys = sorted(name for name in archive.namelist() if name.endswith("-key.pem"))
    assert keys == ["guest/certs/boss/boss-key.pem", "guest/certs/sl-2/sl-2-key.pem"]
    certs = made / "kits" / "guest" / "certs" / "sl-2"
    cert, key = certs / "sl-2-cert.pem", certs / "sl-2-key.pem"
    for name in ("own", "guest"):
        trust = made / "kits" / name / "trust" / "trust.yaml"
        assert Identity.load(cert=cert, key=key, trust=trust, expected_role="sl").name == "sl-2"
    private = [made, made / "guest.zip", key]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o700, 0o600, 0o600]


def test_run_again_for_a_new_member_only_what_is_new_is_made(tmp_path: Path, capsys: Any) -> None:
    first = {"name": "first", "nodes": [node("license-1", "license"), node("sn-1", "sn"), node("sl-1", "sl")]}
    project = write_project(tmp_path / "flu.yaml", first)
    swarm("provision", project, "--encrypt")
    key = tmp_path / "flu" / "kits" / "first" / "certs" / "sn-1" / "sn-1-key.pem"
    before = key.read_bytes()
    later: dict[str, Any] = {"name": "later", "nodes": [node("sl-2", "sl")]}
    write_project(project, first, later)
    capsys.readouterr()
    swarm("provision", project, "--encrypt")
    said = capsys.readouterr().out
    # Its firewall must let in one more, and its nodes trust one more.
    assert "(changed: README.md, trust/later-cas.pem, trust/trust.yaml)" in said
    assert "later.zip (new)" in said
    assert REPLACE in said.splitlines()
    assert key.read_bytes() == before
    swarm("provision", project, "--encrypt")
    said = capsys.readouterr().out
    assert said.count("(as it was)") == 2
    assert REPLACE not in said
    later["nodes"][0]["address"] = "10.1.2.3"
    write_project(project, first, later)
    certs = tmp_path / "flu" / "kits" / "later" / "certs" / "sl-2"
    known = (certs / "sl-2-key.pem").read_bytes()
    swarm("provision", project)
    said = capsys.readouterr().out.splitlines()[1]
    assert "certs/sl-2/sl-2-cert.pem" in said and "certs/sl-2/sl-2-key.pem" not in said
    assert (certs / "sl-2-key.pem").read_bytes() == known  # by which the others know it
    Identity.load(
        cert=certs / "sl-2-cert.pem", key=certs / "sl-2-key.pem", cacert=tmp_path / "flu" / "ca" / "ca-cert.pem"
    )


def test_every_kit_trusts_each_organization_for_its_own_nodes_alone(tmp_path: Path) -> None:
    """With the organization's own trust domain and revocation lists."""
    a, b = own_ca(tmp_path, "a"), own_ca(tmp_path, "b", "b.example")
    authority = Authority.open(Path(b).parent)
    files = {name: authority.issue("sl", name, ["localhost"], tmp_path / "issued") for name in ("sl-2", "sl-3", "sl-1")}
    (tmp_path / "b.crl").write_bytes(revocation_list(authority, read_chain(files["sl-3"].cert)[0]))
    project = write_project(
        tmp_path / "flu.yaml",
        {"name": "a", "ca": a, "nodes": [node("license-1", "license"), node("sn-1", "sn"), node("sl-1", "sl")]},
        {
            "name": "b", "ca": b, "trust_domain": "b.example", "crls": ["b.crl"],
            "nodes": [node("sl-2", "sl"), node("sl-3", "sl")],
        },
    )  # fmt: skip
    swarm("provision", project)
    for kit in (tmp_path / "flu" / "kits").iterdir():
        trust = kit / "trust" / "trust.yaml"

        def load(name: str, trust: Path = trust) -> Identity:
            return Identity.load(cert=files[name].cert, key=files[name].key, trust=trust)

        assert load("sl-2").name == "sl-2"
        with pytest.raises(NotOfOrganization, match="it is revoked"):
            load("sl-3")
        with pytest.raises(NotOfOrganization, match="of the role sl it may give sl-2, sl-3"):
            load("sl-1")
        settings = [file.read_text() for file in (kit / "nodes").glob("*.env")]
        assert settings
        assert all("SWARM_ID_TRUST=trust/trust.yaml\n" in text and "CACERT" not in text for text in settings)
    requests = yaml.safe_load((tmp_path / "flu" / "kits" / "b" / "certs" / "requests.yaml").read_text())
    assert requests["trust_domain"] == "b.example"


def test_keys_of_an_organization_are_encrypted_where_it_says_so(tmp_path: Path) -> None:
    nodes = [node("license-1", "license"), node("sn-1", "sn")]
    organization = {"name": "a", "ca": own_ca(tmp_path, "a"), "encrypted_keys": True, "nodes": nodes}
    swarm("provision", write_project(tmp_path / "flu.yaml", organization))
    kit = Site(tmp_path / "flu" / "kits" / "a", tmp_path / "a-ca")
    certs = kit.kit / "certs"
    assert main(["certs", "request", str(certs / "requests.yaml")]) != 0  # without a passphrase
    assert not list(certs.rglob("*-key.pem"))
    (certs / "passphrase").write_text("of this site\n")
    kit.certify()
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (certs / "sn-1" / "sn-1-key.pem").read_bytes()
    settings = dict(line.split("=", 1) for line in (kit.kit / "nodes" / "sn-1.env").read_text().splitlines()[1:])
    cert, key, passphrase, trust = (
        kit.kit / settings[f"SWARM_ID_{name}"] for name in ("CERT", "KEY", "KEY_PASSPHRASE_FILE", "TRUST")
    )
    assert Identity.load(cert=cert, key=key, key_passphrase_file=passphrase, trust=trust).name == "sn-1"
    compose = yaml.safe_load((kit.kit / "compose.yaml").read_text())
    mounted = {volume["source"] for volume in compose["services"]["sn-1"]["volumes"] if isinstance(volume, dict)}
    assert {"./certs/passphrase", "./certs/sn-1"} <= mounted  # it sees nothing of other nodes
    assert not any("license-1" in source or source == "./certs" for source in mounted)


def test_for_a_new_node_only_its_request_is_to_be_signed(tmp_path: Path, capsys: Any) -> None:
    ca = own_ca(tmp_path, "a")
    nodes = [node("license-1", "license"), node("sn-1", "sn")]
    project = write_project(tmp_path / "flu.yaml", {"name": "a", "ca": ca, "nodes": nodes})
    swarm("provision", project)
    kit = Site(tmp_path / "flu" / "kits" / "a", Path(ca).parent)
    kit.certify()
    write_project(project, {"name": "a", "ca": ca, "nodes": [*nodes, node("sl-1", "sl")]})
    swarm("provision", project)
    capsys.readouterr()
    swarm("certs", "request", kit.kit / "certs" / "requests.yaml")
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith(f" --dir YOUR-CA {kit.kit / 'certs' / 'sl-1' / 'sl-1.csr'}")
    swarm("certs", "sign", "--dir", kit.ca, said.split()[-1])
    assert (kit.kit / "certs" / "sl-1" / "sl-1-cert.pem").exists()


def test_files_of_a_kit_are_what_their_readers_take(tmp_path: Path) -> None:
    nodes = [node("license-1", "license"), node("sn-1", "sn"), node("sl-1", "sl")]
    nodes += [{"name": "swci-1", "role": "swci"}, {"name": "swop-1", "role": "swop"}]
    swarm("provision", write_project(tmp_path / "flu.yaml", {"name": "a", "nodes": nodes}))
    kit = tmp_path / "flu" / "kits" / "a"
    services = yaml.safe_load((kit / "compose.yaml").read_text())["services"]
    assert set(services) == {"license-1", "sn-1", "sl-1", "ml-for-sl-1", "swci-1", "swop-1"}
    mounts = [it for service in services.values() for it in service["volumes"] if isinstance(it, dict)]
    assert all((kit / mount["source"]).exists() for mount in mounts)
    assert all(mount["bind"]["selinux"] == "z" for mount in mounts)  # or SELinux lets no container open it
    for script in ("start", "check", "train"):
        checked = subprocess.run(["sh", "-n", script], cwd=kit, check=False)
        said = subprocess.run([f"./{script}", "nobody"], cwd=kit, capture_output=True, text=True, check=False)
        assert (checked.returncode, said.returncode) == (0, 2)
        assert said.stderr.startswith("ERROR: 'nobody' is no ")
        assert "sl-1" in said.stderr
    shown = subprocess.run(
        ["./train", "sl-1", "sh", "-c", "echo $SL_REQUEST_CHANNEL"],
        cwd=kit, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() == str(kit / "pipes" / "sl-1" / "request.channel")


@pytest.mark.needs("docker")
def test_a_newcomer_reads_what_to_type_in_the_kit(tmp_path: Path) -> None:
    nodes = [node("license-1", "license"), node("sn-1", "sn"), node("sl-1", "sl")]
    swarm("provision", write_project(tmp_path / "flu.yaml", {"name": "a", "ca": own_ca(tmp_path, "a"), "nodes": nodes}))
    kit = tmp_path / "flu" / "kits" / "a"
    said = (kit / "README.md").read_text()
    commands = [line.partition("#")[0].strip() for line in said.splitlines()]
    assert {"./check", "docker compose up -d", "docker compose up -d ml-for-sl-1"} <= set(commands)
    assert "docker compose restart license-1 sn-1 sl-1" in commands
    once = next(line for line in commands if line.endswith("> .env"))
    config = "docker compose config --images ml-for-sl-1"
    for setting, image in (
        ("", "swarm-learning/ml-keras:latest"),
        ("IMAGES=r.example/us", "r.example/us/ml-keras:latest"),
    ):
        script = f"{once}; echo {setting} >> .env; {config}"
        shown = subprocess.run(["sh", "-c", script], cwd=kit, capture_output=True, text=True, check=False)
        assert (shown.returncode, image in shown.stdout.split()) == (0, True), shown.stderr + shown.stdout


GOOD = """\
project: flu
organizations:
  - name: a
    nodes:
      - {name: license-1, role: license, address: a.example}
      - {name: sn-1, role: sn, address: a.example}
  - name: b
    nodes:
      - {name: sl-1, role: sl, address: b.example}
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "name: sl-1",
            "name: SN-1",
            "line 9: organizations[1].nodes[0].name: 'SN-1' is the name of another node (line 6)",
        ),
        ("- name: b", "- name: a", "line 7: organizations[1].name: 'a' is the name of another one (line 3)"),
        ("role: sl,", "role: slave,", "line 9: organizations[1].nodes[0].role: 'slave' stands here"),
        ("role: license", "role: admin", "exactly one node of the role license; there is none"),
        ("name: sl-1, role: sl", "name: l-2, role: license", "the first is in line 5"),
        ("role: sn", "role: admin", "needs a node of the role sn"),
        ("role: sl, address: b.example", "role: sl", "a node of the role sl: it needs an address"),
        ("b.example", "'b.example:30305'", "a host name or an IP address is needed, without a port"),
        ("address: b.example", "address: a.example, port: 30303", "port 30303 of a.example is another one's (line 6)"),
        ("address: b.example", "address: b.example, sn: sn-7", "no SN is named 'sn-7'; there are sn-1"),
        ("address: b.example", "adress: b.example", "this key is not known; perhaps address is meant"),
        ("name: sl-1", "name: 'sl 1'", "'sl 1' is not a node name"),
        ("address: b.example", "address: b.example, port: 70000", "at most 65535"),
        ("  - name: b\n", "  - name: b\n    ca: missing.pem\n", "line 8: organizations[1].ca: "),
        ("  - name: b\n", "  - name: b\n    crls: [b.crl]\n", "line 8: organizations[1].crls: this is of an"),
        ("  - name: b\n", "  - name: b\n    trust_domain: b.example\n", "an organization's own CA: give ca too"),
        ("project: flu", "project: ../flu", "line 1: project: "),
        (GOOD, "- 1", "line 1"),
    ],
)
def test_a_project_that_cannot_be_is_one_sentence_with_file_and_line(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, *, old: str, new: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flu.yaml").write_text(GOOD.replace(old, new, 1))
    assert main(["provision", "flu.yaml"]) not in (0, 1)
    said = capsys.readouterr().err
    assert said.startswith("ERROR: flu.yaml, line ")
    assert words in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flu.yaml"]


def test_a_ca_signs_only_what_is_a_request_of_its_trust_domain(tmp_path: Path, capsys: Any) -> None:
    ca = Path(own_ca(tmp_path, "a")).parent
    (tmp_path / "no.csr").write_text("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
    wanted = {"trust_domain": "other.example", "nodes": [{"name": "sl-1", "role": "sl", "hosts": ["localhost"]}]}
    (tmp_path / "requests.yaml").write_text(yaml.safe_dump(wanted))
    swarm("certs", "request", tmp_path / "requests.yaml")
    good = (tmp_path / "sl-1" / "sl-1.csr").read_bytes()
    (tmp_path / "other.csr").write_bytes(good.replace(b"\n", b"\nX", 1))
    for name, words in (
        ("no.csr", "is not signed"),
        ("other.csr", "is not signed"),
        ("missing.csr", "it cannot be read"),
        ("ca-cert.pem", "there is no PEM certificate request in it"),
        ("sl-1/sl-1.csr", "it is for the trust domain other.example, this CA is for swarm.local"),
    ):
        path = ca / name if name == "ca-cert.pem" else tmp_path / name
        capsys.readouterr()
        assert main(["certs", "sign", "--dir", str(ca), str(path)]) == 10
        assert words in capsys.readouterr().err
    assert not list(tmp_path.rglob("sl-1-cert.pem"))
