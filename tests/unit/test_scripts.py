"""What the scripts would run: `--dry-run` for many option combinations, and a sentence for each bad one."""

import ast
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from services.identity.authority import Authority
from services.identity.identity import Identity
from services.scripts.logs import without_secrets

ROOT = Path(__file__).parents[2]
HELP = Path(__file__).parent

Script = Callable[..., subprocess.CompletedProcess[str]]

STAND_IN = """#!/bin/sh
case "$*" in
  "container create --help") cat {help} ;;
  *) echo "Error response from daemon: none of that here" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an identity, a profile and a script, and engines that know their options and nothing else."""
    for engine in ("docker", "podman"):
        program = tmp_path / "bin" / engine
        program.parent.mkdir(exist_ok=True)
        program.write_text(STAND_IN.format(help=HELP / f"{engine}-create-help.txt"))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")  # so that nobody is asked for a password by sudo
    cert = tmp_path / "cert"
    (cert / "capath").mkdir(parents=True)
    for name in ("sn-cert.pem", "capath/ca.pem", "trust.yaml"):
        (cert / name).write_text("certificate\n")
    (cert / "sn-key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    (cert / "sn-key.pem").chmod(0o600)
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "trust.yaml").touch()
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "profile.yaml").touch()
    (tmp_path / "usr" / "init").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def script(host: Path) -> Script:
    def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / "scripts" / "bin" / name, *words],
            capture_output=True, text=True, check=False, timeout=60, cwd=host,
        )  # fmt: skip

    return run


KEYS = "--cert cert/sn-cert.pem --key cert/sn-key.pem"
WHO = f"{KEYS} --capath cert/capath"
MOUNTED_KEYS = (
    "--volume {host}/cert/sn-cert.pem:{host}/cert/sn-cert.pem:ro --env SWARM_ID_CERT={host}/cert/sn-cert.pem "
    "--volume {host}/cert/sn-key.pem:{host}/cert/sn-key.pem:ro --env SWARM_ID_KEY={host}/cert/sn-key.pem "
)
MOUNTED = "--volume {host}/cert/capath:{host}/cert/capath:ro --env SWARM_ID_CAPATH={host}/cert/capath " + MOUNTED_KEYS
LICENSE = "--env SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_"
CHANNELS = (
    "--env SL_REQUEST_CHANNEL=/tmp/hpe-swarm/request.channel --env SL_RESPONSE_CHANNEL=/tmp/hpe-swarm/response.channel"
)
SL = (
    "container create --name sl1 --hostname sl1 --label swarm.node=sl --user {user} "
    + MOUNTED
    + "--env THIS_NODE_IP=h1 --env SN_NODE_IP=sn1 --volume /tmp/hpe-swarm "
    + CHANNELS
    + f" {LICENSE}IP=h1 swarm-learning/sl:latest"
)

GOLDEN = [
    pytest.param(
        "run-sn",
        f"--name sn1 --host-ip h1 --sentinel {WHO}",
        "docker container create --name sn1 --hostname sn1 --label swarm.node=sn --user {user} "
        + MOUNTED
        + "--env THIS_NODE_IP=h1 --env SN_I_AM_SENTINEL=true --label swarm.sentinel=true "
        f"{LICENSE}IP=h1 swarm-learning/sn:latest\n"
        "docker container start --attach sn1",
        id="sentinel",
    ),
    pytest.param(
        "run-sn",
        f"--name sn1 --host-ip h1 --sentinel --found-with trust-file {KEYS} --trust trust/trust.yaml -d",
        "docker container create --name sn1 --hostname sn1 --label swarm.node=sn --user {user} "
        "--volume {host}/trust:{host}/trust:ro --env SWARM_ID_TRUST={host}/trust/trust.yaml "
        + MOUNTED_KEYS
        + "--env THIS_NODE_IP=h1 --env SN_I_AM_SENTINEL=true --label swarm.sentinel=true "
        f"--env SN_FOUND_WITH=trust-file {LICENSE}IP=h1 swarm-learning/sn:latest\n"
        "docker container start sn1",
        id="a sentinel that begins with all organizations of its trust file",
    ),
    pytest.param(
        "run-sn",
        f"--Name=sn2 --HOST-IP=h2 --sentinel-ip sn1 --sentinel-api-port 31304 --sn-api-port 32304 --sn-p2p-port 32303 "
        f"-d --apls-ip lic --apls-port 15814 -v data:/platform/swarm/SMLNODE --network net {WHO}",
        "docker container create --name sn2 --hostname sn2 --label swarm.node=sn "
        "--volume data:/platform/swarm/SMLNODE --network net --user {user} "
        + MOUNTED
        + "--env THIS_NODE_IP=h2 --env SENTINEL_NODE_IP=sn1 --env SENTINEL_API_SERVER_PORT=31304 "
        "--env SN_API_SERVER_PORT=32304 --publish 32304:32304 "
        "--env SN_ETH_PORT_EXT=32303 --env SN_P2P_BIND_PORT=30303 --publish 32303:30303 "
        f"{LICENSE}IP=lic {LICENSE}PORT=15814 swarm-learning/sn:latest\n"
        "docker container start sn2",
        id="a second SN on other ports, detached",
    ),
    pytest.param(
        "run-sn",
        f"--name sn3 --sentinel-api-service api.sn1.swarm --sn-api-service api.sn3.swarm:31443 "
        f"--sn-p2p-service p2p.sn3.swarm --primary-apls-ip lic --secondary-apls-ip lic2 {WHO} -- --log-level DEBUG",
        "docker container create --name sn3 --hostname sn3 --label swarm.node=sn --user {user} "
        + MOUNTED
        + "--env SENTINEL_API_SERVICE=api.sn1.swarm --env SN_API_SERVICE=api.sn3.swarm:31443 --publish 31443:30304 "
        f"--env SN_ETH_P2P_SERVICE=p2p.sn3.swarm {LICENSE}IP=lic "
        "--env SWARM_LICENSE_AUTOPASSJ_SERVER_SECONDARY_IP=lic2 swarm-learning/sn:latest --log-level DEBUG\n"
        "docker container start --attach sn3",
        id="behind a reverse proxy",
    ),
    pytest.param(
        "run-sl", f"--name sl1 --host-ip h1 --sn-ip sn1 {WHO}",
        f"docker {SL}\ndocker container start --attach sl1",
        id="an SL alone",
    ),
    pytest.param(
        "run-sl",
        f"--name sl1 --host-ip h1 --sn-ip sn1 {WHO} --ml-image user-ml --ml-cmd 'train.py \"two words\"' "
        "--ml-entrypoint python3 --ml-w /tmp/test --ml-v ./usr:/data:ro --ml-v vol:/model --ml-e MODEL_DIR=model "
        "--ml-gpus all --ml-shm-size=1g --ml-privileged",
        f"docker {SL}\n"
        "docker container create --name sl1-ml --label swarm.node=ml --entrypoint python3 --workdir /tmp/test "
        "--volume {host}/usr:/data:ro --volume vol:/model --env MODEL_DIR=model --gpus all --shm-size 1g --privileged "
        "--user {user} --volumes-from sl1 " + CHANNELS + " user-ml train.py 'two words'\n"
        "docker container start sl1\ndocker container start sl1-ml\ndocker container logs --follow sl1",
        id="an SL and its ML program",
    ),
    pytest.param(
        "run-sl",
        f"--name sl1 --sl-fs-service fs.sl1.swarm --sn-api-service api.sn1.swarm --apls-ip lic {WHO} -d "
        "--sidecar watch --watch-image busybox --watch-cmd top --watch-pid-main --watch-volumes-from-main",
        "docker container create --name sl1 --hostname sl1 --label swarm.node=sl --user {user} "
        + MOUNTED
        + "--env SL_FS_SERVICE=fs.sl1.swarm --publish 30305:30305 --env SN_API_SERVICE=api.sn1.swarm "
        "--volume /tmp/hpe-swarm " + CHANNELS + f" {LICENSE}IP=lic swarm-learning/sl:latest\n"
        "docker container create --name sl1-watch --label swarm.node=watch --pid container:sl1 --volumes-from sl1 "
        "busybox top\n"
        "docker container start sl1\ndocker container start sl1-watch",
        id="a sidecar of another name",
    ),
    pytest.param(
        "run-sl", f"--name sl1 --host-ip h1 --sn-ip sn1 --sl-fs-port 16000 {WHO}",
        "docker "
        + SL.replace(
            "--env SN_NODE_IP",
            "--env SL_FS_PORT=16000 --env SL_BIND_PORT=30305 --publish 16000:30305 --env SN_NODE_IP",
        )
        + "\ndocker container start --attach sl1",
        id="another port for the file server",
    ),
    pytest.param(
        "run-swop",
        f"--name swop1 --usr-dir usr --profile-file-name profile.yaml --swop-uid 5 --docker-group-id 99 "
        f"--docker-socket-file /run/d.sock --sn-ip sn1 --apls-ip lic {WHO} -e A=b",
        "docker container create --name swop1 --hostname swop1 --label swarm.node=swop --env A=b --user {user} "
        + MOUNTED
        + "--volume {host}/usr:/platform/swarm/usr --volume {host}/usr:{host}/usr --env USR_DIR={host}/usr "
        "--env SWOP_PROFILE=profile.yaml "
        "--volume /run/d.sock:/var/run/docker.sock --group-add 99 --env SWOP_UID=5 --env SWOP_GID={gid} "
        f"--env SN_NODE_IP=sn1 {LICENSE}IP=lic swarm-learning/swop:latest\n"
        "docker container start --attach swop1",
        id="a SWOP",
    ),
    pytest.param(
        "run-swop",
        f"--engine=podman --name swop1 --usr-dir usr --profile-file-name profile.yaml --swop-uid 5 "
        f"--docker-group-id 99 --docker-socket-file /run/p.sock --apls-ip lic {WHO} -d",
        "podman container create --name swop1 --hostname swop1 --label swarm.node=swop --user {user}{keep} "
        + MOUNTED
        + "--volume {host}/usr:/platform/swarm/usr --volume {host}/usr:{host}/usr --env USR_DIR={host}/usr "
        "--env SWOP_PROFILE=profile.yaml "
        "--volume /run/p.sock:/var/run/docker.sock --env CONTAINER_HOST=unix:///var/run/docker.sock --group-add 99 "
        f"--env SWOP_UID=5 --env SWOP_GID={{gid}} {LICENSE}IP=lic swarm-learning/swop:latest\n"
        "podman container start swop1",
        id="a SWOP of Podman",
    ),
    pytest.param(
        "run-swci",
        f"--name swci1 --usr-dir usr --init-script-name init --apls-ip lic {WHO}",
        "docker container create --name swci1 --hostname swci1 --label swarm.node=swci --user {user} "
        + MOUNTED
        + "--volume {host}/usr:/platform/swarm/usr --env SWCI_STARTUP_SCRIPT=init "
        f"--env SWARM_DATA_DIR=/platform/swarm/SMLNODE {LICENSE}IP=lic --rm --interactive "
        "swarm-learning/swci:latest\n"
        "docker container start --attach --interactive swci1",
        id="a shell",
    ),
    pytest.param(
        "run-swci",
        f"--name swci1 -d --rm=false -e SWCI_MODE=WEB -p 30306:30306 --apls-ip lic {WHO}",
        "docker container create --name swci1 --hostname swci1 --label swarm.node=swci --env SWCI_MODE=WEB "
        "--publish 30306:30306 --user {user} "
        + MOUNTED
        + f"--env SWARM_DATA_DIR=/platform/swarm/SMLNODE {LICENSE}IP=lic swarm-learning/swci:latest\n"
        "docker container start swci1",
        id="its REST API, kept",
    ),
    pytest.param(
        "run-license-server",
        f"--name lic --apls-port 15814 --seats SN=1,SL=2 {WHO} -d",
        "docker container create --name lic --hostname lic --label swarm.node=license-server --user {user} "
        + MOUNTED
        + "--publish 15814:5814 --volume apls-volume:/platform/swarm/SMLNODE --env SWARM_LICENSE_SEATS=SN=1,SL=2 "
        "swarm-learning/license-server:latest\n"
        "docker container start lic",
        id="a license server",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "words", "expected"), GOLDEN)
def test_dry_run_prints_the_commands(script: Script, host: Path, name: str, words: str, expected: str) -> None:
    done = script(name, "--dry-run", *shlex.split(words))
    assert (done.returncode, done.stderr) == (0, "")
    keep = "" if os.geteuid() == 0 else " --userns keep-id"
    facts = {"host": str(host), "user": f"{os.getuid()}:{os.getgid()}", "gid": os.getgid(), "keep": keep}
    assert done.stdout.strip() == expected.format(**facts)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run-sn", "--host-ip h1 --sentinel"),
        ("run-sl", "--host-ip h1 --sn-ip sn1"),
        ("run-swop", "--usr-dir usr --profile-file-name profile.yaml --sn-ip sn1"),
        ("run-swci", "--usr-dir usr"),
        ("run-license-server", ""),
    ],
)
def test_every_node_finds_its_trust_file_with_what_it_names(script: Script, host: Path, name: str, words: str) -> None:
    done = script(name, "--dry-run", *shlex.split(f"{words} {KEYS} --trust trust/trust.yaml"))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"--volume {host}/trust:{host}/trust:ro --env SWARM_ID_TRUST={host}/trust/trust.yaml " in done.stdout
    assert "SWARM_ID_CA" not in done.stdout


def test_a_directory_that_is_the_nodes_own_is_mounted_so_that_it_sees_new_files(script: Script, host: Path) -> None:
    own = host / "own"
    own.mkdir()
    for name in ("sn-cert.pem", "sn-key.pem"):
        (host / "cert" / name).rename(own / name)
    (own / "passphrase").write_text("of this node\n")
    words = "--cert own/sn-cert.pem --key own/sn-key.pem --key-passphrase-file own/passphrase --capath cert/capath"
    asked = shlex.split(f"--dry-run --host-ip h1 --sentinel {words}")
    mounted = script("run-sn", *asked).stdout
    assert f"--volume {own}:{own}:ro --volume {host}/cert/capath" in mounted
    assert mounted.count(f"--volume {own}") == 1
    assert f"--env SWARM_ID_KEY={own}/sn-key.pem " in mounted
    for foreign in ("sl-key.pem", "notes.txt"):  # of another node, and nobody's business
        (own / foreign).write_text("-----BEGIN PRIVATE KEY-----\n")
        mounted = script("run-sn", *asked).stdout
        assert f"--volume {own}:" not in mounted
        assert f"--volume {own}/sn-key.pem:{own}/sn-key.pem:ro" in mounted
        (own / foreign).unlink()


def test_a_node_finds_the_passphrase_of_its_key(script: Script, host: Path) -> None:
    (host / "passphrase").write_text("of this node\n")
    done = script(
        "run-sn", "--dry-run", *shlex.split(f"--host-ip h1 --sentinel {WHO} --key-passphrase-file passphrase")
    )
    assert (done.returncode, done.stderr) == (0, "")
    mounted = f"--volume {host}/passphrase:{host}/passphrase:ro"
    assert f"{mounted} --env SWARM_ID_KEY_PASSPHRASE_FILE={host}/passphrase " in done.stdout
    assert "of this node" not in done.stdout


def test_the_directory_of_a_swop_is_found_where_the_host_has_it(script: Script, host: Path) -> None:
    words = f"--name swop1 --usr-dir cert/../usr --profile-file-name profile.yaml --sn-ip sn1 {WHO}"
    done = script("run-swop", "--dry-run", *shlex.split(words))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"--volume {host}/usr:{host}/usr --env USR_DIR={host}/usr " in done.stdout


BAD = [
    ("run-sn", f"--sentinel {WHO}", "--host-ip: give the address by which other nodes reach this one"),
    ("run-sn", f"--host-ip h1 {WHO}", "--sentinel-ip: give --sentinel for the first SN"),
    ("run-sn", f"--host-ip h1 --sentinel --sentinel-ip h2 {WHO}", "the first one or joins h2, not both"),
    ("run-sn", f"--host-ip h1 --sentinel --sn-api-port 70000 {WHO}", "'70000' is not a port from 1 to 65535"),
    ("run-sn", "--host-ip h1 --sentinel", "--cert and --key and --cacert, --capath or --trust are not given"),
    ("run-sn", f"--host-ip h1 --sentinel {WHO} --trust trust/trust.yaml", "--trust: it takes the place of --cacert"),
    ("run-sn", f"--host-ip h1 --sentinel {KEYS} --trust trust/none.yaml", "trust/none.yaml: no such file"),
    ("run-sn", f"--host-ip h1 --sentinel {KEYS} --trust cert/trust.yaml", "cert/sn-key.pem is a private key; give"),
    ("run-sn", "--host-ip h1 --sentinel --socket-path s --trust t", "--trust: with --socket-path the Workload API"),
    ("run-sn", "--host-ip h1 --sentinel --cert none.pem --key cert/sn-key.pem --capath cert", "no such file"),
    ("run-sn", "--host-ip h1 --sentinel --cert cert --key cert/sn-key.pem --capath cert", "cert is not a file"),
    ("run-sn", f"--host-ip h1 --sentinel --found-with all {WHO}", "--found-with: 'all' is neither own nor trust-file"),
    ("run-sn", f"--host-ip h1 --sentinel --found-with trust-file {WHO}", "--found-with: give --trust too"),
    ("run-sn", f"--host-ip h1 --sentinel-ip h2 --found-with own {WHO}", "--found-with: it is for the SN that begins"),
    ("run-sn", f"--host-ip h1 --sentinal {WHO}", "--sentinal: it is not known; perhaps --sentinel is meant"),
    ("run-sn", "--host-ip", "--host-ip: it needs a value"),
    ("run-sn", "sentinel", "sentinel: it is no option"),
    ("run-sn", f"--host-ip h1 --sentinel --socket-path none.sock {WHO}", "none.sock is not there"),
    ("run-sn", f"--host-ip h1 --sentinel -d --attach {WHO}", "--attach: it contradicts --detach"),
    ("run-sn", f"--host-ip h1 --sentinel -v ./none:/x {WHO}", "--volume: ./none is not there"),
    ("run-sn", f'--host-ip h1 --sentinel --cmd "a \'b" {WHO}', "--cmd: its quotes do not match"),
    ("run-sn", f"--host-ip h1 --sentinel --engine lxc {WHO}", "'lxc' is neither docker nor podman"),
    ("run-sn", f"--host-ip h1 --sentinel --user 7:8 {WHO}", "cannot be read by user 7:8, as whom the container runs"),
    ("run-sn", f"--host-ip h1 --sentinel {WHO}", "Docker does not answer: none of that here"),
    ("run-sl", f"--host-ip h1 {WHO}", "--sn-ip: give the address of the SN"),
    ("run-sl", f"--host-ip h1 --sn-ip s {WHO} --ml-cmd x", "--ml-image: give the image of the ML container"),
    ("run-sl", f"--host-ip h1 --sn-ip s {WHO} --ml-image i --ml-gpu all", "perhaps --ml-gpus is meant"),
    ("run-sl", f"--host-ip h1 --sn-ip s {WHO} --ml-image i --ml-user joe", "'joe' is not UID or UID:GID"),
    (
        "run-sl",
        f"--host-ip h1 --sn-ip s {WHO} --ml-image i --ml-user 4001:1 --user {os.getuid()}",
        f"open to their owner only, user {os.getuid()}, and the ML program runs as user 4001",
    ),
    ("run-swop", f"--profile-file-name profile.yaml {WHO}", "--usr-dir: give the directory in which the profile lies"),
    ("run-swop", f"--usr-dir usr {WHO}", "--profile-file-name: give the profile"),
    ("run-swop", f"--usr-dir usr --profile-file-name none.yaml {WHO}", "none.yaml is not a file at the top"),
    (
        "run-swop",
        f"--usr-dir usr --profile-file-name profile.yaml --docker-socket-file none {WHO}",
        "none is not a socket",
    ),
    ("run-swci", f"--init-script-name init {WHO}", "--init-script-name: give --usr-dir too"),
    ("run-swci", f"--usr-dir none {WHO}", "none is not a directory"),
    ("run-license-server", f"--apls-volume ./none {WHO}", "none is not a directory"),
    ("stop-swarm", "--swap", "--swap: it is not known; perhaps --swop is meant"),
    ("stop-swarm", "--memory 5", "--memory: it is not known"),
    ("stop-swarm", "--all", "Docker does not answer"),
    ("swarmLogCollector", "workspace=none", "workspace=none: it is not a directory"),
    ("gen-cert", "-e ../x -i 1", "-e: '../x' is not a name"),
    ("gen-cert", "-e mnist -i 1 --host a/b", "--host: 'a/b' is not a host name or address"),
]


@pytest.mark.parametrize(("name", "words", "problem"), BAD)
def test_what_is_wrong_is_one_sentence(script: Script, name: str, words: str, problem: str) -> None:
    done = script(name, *shlex.split(words))
    assert done.returncode in (2, 22)
    assert done.stdout == ""
    assert done.stderr.startswith("ERROR: ")
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_host_without_an_engine_is_told_so(script: Script, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(host / "nothing"))
    done = script("run-sn", "--host-ip", "h1", "--sentinel")
    assert (done.returncode, done.stderr.count("\n")) == (22, 1)
    assert "Neither docker nor podman is installed here" in done.stderr


def test_gen_cert_makes_identities_that_nodes_accept(script: Script, host: Path) -> None:
    for index in ("1", "2"):
        done = script("gen-cert", "-e", "mnist", "-i", index, "--host", "172.1.1.1", "--host", "sn.example.org")
        assert (done.returncode, done.stderr) == (0, "")
    cert = host / "workspace" / "mnist" / "cert"
    for role in ("sn", "sl", "swci", "swop", "license"):
        key = cert / f"{role}-1-key.pem"
        found = Identity.load(
            cert=cert / f"{role}-1-cert.pem", key=key, capath=cert / "ca" / "capath", expected_role=role
        )
        assert found.name == f"{role}-1"
        assert key.stat().st_mode & 0o777 == 0o600
    again = script("gen-cert", "-e", "mnist", "-i", "1")
    assert again.returncode == 22
    assert "exists already and is not overwritten" in again.stderr


def test_the_collector_takes_no_key_and_no_secret_along(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", "Test hospital")
    key = (authority.directory / "ca-key.pem").read_text()
    text = without_secrets(
        f"log\n{key}\nSWARM_LICENSE_TOKEN=abc123\nurl: postgresql://swarm:hunter2@db/x\n"
        '"envvars": {"HF_TOKEN": "hf_1234", "SWARM_ID_KEY": "/cert/key.pem"}\nPassword: secret1\n'
    )
    for secret in ("MIGH", "abc123", "hunter2", "hf_1234", "secret1"):
        assert secret not in text
    assert "/cert/key.pem" in text
    assert "postgresql://swarm:" in text


def test_the_collector_takes_yaml_files_only(script: Script, host: Path) -> None:
    engine = host / "bin" / "docker"
    engine.write_text("#!/bin/sh\nexit 0\n")
    work = host / "work"
    work.mkdir()
    (work / "task.yaml").write_text("Name: digits\nEnvvars:\n- API_TOKEN: abc123\n")
    (work / "model.safetensors").write_bytes(b"parameters")
    (work / "sn-key.pem").write_text("key")
    (work / "link.yaml").symlink_to("/etc/passwd")
    done = script("swarmLogCollector", "workspace=work")
    assert (done.returncode, done.stderr) == (0, "")
    with tarfile.open(host / done.stdout.strip()) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
        entry = next(name for name in archive.getnames() if name.endswith("task.yaml"))
        task = archive.extractfile(entry)
        assert task is not None
        assert task.read().decode() == "Name: digits\nEnvvars:\n- API_TOKEN: (hidden)\n"
    assert [name for name in names if name.startswith("workspace/")] == ["workspace/task.yaml"]


def test_the_scripts_need_an_old_python_and_its_library_alone() -> None:
    services = ROOT / "services"
    beside = [services / "runtime" / f"{name}.py" for name in ("__init__", "interrupts", "trust_directory")]
    for path in [*(services / "scripts").glob("*.py"), *(services / "errors").glob("*.py"), *beside]:
        tree = ast.parse(path.read_text(), feature_version=(3, 9))
        imported = {
            name.split(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )
        }  # fmt: skip
        assert imported <= set(sys.stdlib_module_names) | {"services"}, path
