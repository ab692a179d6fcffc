"""The scripts with a real Docker and a real Podman: options arrive, and failures leave nothing behind."""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts import BASE_IMAGE, PODMAN_SOCKET

from services.identity.authority import Authority

ROOT = Path(__file__).parents[2]

# Instead of an SL and an ML program: one makes a pipe at the given place, the other writes into it.
SL = (
    "import os; p = os.environ['SL_REQUEST_CHANNEL']; os.mkfifo(p)\n"
    "trusted = os.listdir(os.path.dirname(os.environ['SWARM_ID_TRUST']))\n"
    "print(open(p).read(), os.environ['THIS_NODE_IP'], *sorted(trusted))"
)
ML = (
    "import os, time; p = os.environ['SL_REQUEST_CHANNEL']\n"
    "while not os.path.exists(p): time.sleep(0.05)\n"
    "open(p, 'w').write(open('/data/number').read() + os.environ['MODEL'])"
)


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine. Podman is used through its service, as in all these tests."""
    if request.param == "podman" and PODMAN_SOCKET:
        monkeypatch.setenv("CONTAINER_HOST", PODMAN_SOCKET)
    return str(request.param)


@pytest.fixture
def name(engine: str) -> Iterator[str]:
    name = f"scripts-{uuid.uuid4().hex[:8]}"
    yield name
    subprocess.run([engine, "rm", "-f", "-v", name, f"{name}-ml"], capture_output=True, check=False)


@pytest.fixture
def who(tmp_path: Path) -> list[str]:
    issued = Authority.create(tmp_path / "ca", "Test hospital").issue("sl", "sl-1", ["localhost"], tmp_path / "cert")
    trust = tmp_path / "trust" / "trust.yaml"
    trust.parent.mkdir()
    trust.touch()
    issued.cacert.rename(trust.parent / "ca.pem")
    return ["--cert", str(issued.cert), "--key", str(issued.key), "--trust", str(trust)]


def script(name: str, engine: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "bin" / name, "--engine", engine, *words],
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip


def left_of(engine: str, name: str) -> str:
    listed = subprocess.run(
        [engine, "ps", "--all", "--filter", f"name={name}", "--format", "{{.Names}}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return listed.stdout.strip()


def test_a_pair_gets_its_pipes_its_mounts_and_its_variables(
    engine: str, name: str, who: list[str], tmp_path: Path
) -> None:
    (tmp_path / "number").write_text("42 ")
    program = ["--image", BASE_IMAGE, "--entrypoint", "python3"]
    done = script(
        "run-sl", engine, *program, "--name", name, "--host-ip", "h1", "--sn-ip", "sn1", *who,
        "--ml-image", BASE_IMAGE, "--ml-entrypoint", "python3", "--ml-v", f"{tmp_path}:/data:ro", "--ml-e", "MODEL=m",
        "--ml-cmd", f'-c "{ML}"', "--", "-c", SL,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "42 m h1 ca.pem trust.yaml"), done.stderr


def test_a_container_that_runs_sees_a_certificate_that_takes_the_place_of_its_own(
    engine: str, name: str, who: list[str], tmp_path: Path
) -> None:
    waits = (
        "import os, signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "print(open(os.environ['SWARM_ID_CERT']).read() and 'it runs', flush=True)\n"
        "signal.sigwait([signal.SIGUSR1])\n"
        "print(open(os.environ['SWARM_ID_CERT']).read())"
    )
    program = ["--image", BASE_IMAGE, "--entrypoint", "python3", "--name", name, "--host-ip", "h1", "--sn-ip", "sn1"]
    with subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "bin" / "run-sl", "--engine", engine, *program, *who, "--", "-c", waits],
        stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdout.readline() == "it runs\n"
        new = tmp_path / "cert" / "new.pem"
        new.write_text("renewed")
        new.replace(who[who.index("--cert") + 1])  # as `swarm certs renew` does
        subprocess.run([engine, "kill", "--signal", "USR1", name], stdout=subprocess.DEVNULL, check=True)
        assert running.communicate(timeout=60)[0].strip() == "renewed"
        assert running.returncode == 0


def test_the_exit_code_is_that_of_the_node(engine: str, name: str, who: list[str]) -> None:
    done = script(
        "run-sl", engine, "--image", BASE_IMAGE, "--entrypoint", "python3", "--name", name, "--host-ip", "h1",
        "--sn-ip", "sn1", *who, "--", "-c", "raise SystemExit(7)",
    )  # fmt: skip
    assert done.returncode == 7


def test_nothing_is_left_where_the_second_container_cannot_be_made(engine: str, name: str, who: list[str]) -> None:
    done = script(
        "run-sl", engine, "--image", BASE_IMAGE, "--name", name, "--host-ip", "h1", "--sn-ip", "sn1", *who,
        "--ml-image", BASE_IMAGE, "--ml-memory", "lots",
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (22, 1), done.stderr
    assert "did not make the container" in done.stderr
    assert left_of(engine, name) == ""


def test_what_the_host_lacks_is_said_before_anything_is_made(engine: str, name: str, who: list[str]) -> None:
    common = ["--name", name, "--host-ip", "h1", "--sn-ip", "sn1", *who]
    here = ["--image", BASE_IMAGE]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, problem in (
            (["--image", "swarm-learning/none:1", "--pull", "never"], "This host has no image swarm-learning/none:1"),
            ([*here, "--network", "no-such-net"], "has no network no-such-net"),
            ([*here, "--sl-fs-port", port], f"Port {port} of this host, which {name} is to be given, is in use"),
        ):
            done = script("run-sl", engine, *common, *words)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (22, "", 1), done.stderr
            assert problem in done.stderr
    assert left_of(engine, name) == ""


def test_a_second_sentinel_on_one_network_is_refused(engine: str, name: str, who: list[str]) -> None:
    sentinel = ["--image", BASE_IMAGE, "--host-ip", "h1", "--sentinel", *who, "-d"]
    first = script("run-sn", engine, *sentinel, "--name", name, "--entrypoint", "sleep", "--", "600")
    assert (first.returncode, first.stdout.strip()) == (0, name), first.stderr
    second = script("run-sn", engine, *sentinel, "--name", f"{name}-ml")
    assert (second.returncode, second.stdout, second.stderr.count("\n")) == (22, "", 1), second.stderr
    assert f"The container {name} is the sentinel on this network already" in second.stderr
    assert left_of(engine, name) == name


def test_stop_swarm_removes_the_nodes_of_this_host_and_no_program(engine: str, name: str, who: list[str]) -> None:
    """By their label. Only lists them, as nothing of others may be stopped here."""
    words = [
        "--image", BASE_IMAGE, "--entrypoint", "sleep", "--name", name, "--host-ip", "h1",
        "--sn-ip", "sn1", *who, "-d",
        "--ml-image", BASE_IMAGE, "--ml-cmd", "sleep 600", "--", "600",
    ]  # fmt: skip
    started = script("run-sl", engine, *words)
    assert (started.returncode, started.stdout.split()) == (0, [name, f"{name}-ml"]), started.stderr
    taken = script("run-sl", engine, *words)
    assert f"There is a container {name} on this host already" in taken.stderr
    planned = script("stop-swarm", engine, "--sl", "--dry-run")
    assert f"{engine} container stop --time 30 {name}\n" in planned.stdout
    assert f"{name}-ml" not in planned.stdout


@pytest.mark.needs("docker")
def test_where_the_engine_does_not_answer_this_is_said(who: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "DOCKER_HOST", "unix:///nowhere.sock")
    done = script("run-sl", "docker", "--name", "x", "--host-ip", "h1", "--sn-ip", "sn1", *who)
    assert (done.returncode, done.stderr.count("\n")) == (22, 1), done.stderr
    assert "Docker does not answer" in done.stderr
