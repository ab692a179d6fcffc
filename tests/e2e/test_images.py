"""The images of the nodes, built from this checkout, started and stopped as users would."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from images import ML, NODES, ROOT, TAG, named
from parts import BASE_IMAGE
from pods import STRICT

from services.identity.authority import Authority

STOPPED_WITHIN_S = 5
SL_LIMIT_BYTES = 200_000_000  # above the base
FAMILIAR_WHEEL = "swarmlearning-client-py3-none-manylinux_2_24_x86_64.whl"
LABELS = {"title", "description", "licenses", "version", "vendor", "revision", "base.name"}

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(600), pytest.mark.usefixtures("images")]


def docker(*arguments: str, within_s: float = 120) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=within_s)
    assert done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def inspected(image: str) -> dict[str, Any]:
    (found,) = json.loads(docker("image", "inspect", image))
    return dict(found)


@pytest.mark.parametrize("node", [*NODES, ML])
def test_an_image_says_what_it_is_and_runs_without_root_under_an_init(node: str) -> None:
    image = inspected(named(node))
    labels = {name.removeprefix("org.opencontainers.image.") for name in image["Config"]["Labels"]}
    assert labels >= LABELS
    assert image["Config"]["User"] == "1000:1000"
    assert image["Config"]["Entrypoint"][0] == "tini"
    assert bool(image["Config"].get("Healthcheck")) == (node in NODES)


@pytest.mark.parametrize("node", NODES)
def test_the_image_of_a_node_has_no_compiler_no_pip_and_no_key(node: str) -> None:
    look = (
        "for tool in cc gcc g++ go pip strip; do command -v $tool; done | grep -v '^/usr/local/bin/pip$';"
        " find / -xdev -type d \\( -path '*/.cache/pip' -o -path '*/pip/cache' \\) 2>/dev/null;"
        " grep -rlIE --exclude='*.py' -e '-----BEGIN ([A-Z]+ )?PRIVATE KEY'"
        " /opt /etc /platform /tmp /usr/local 2>/dev/null;"
        " find /opt -name '*.lock' -o -name 'requirements*.txt'"
    )
    assert docker("run", "--rm", "--entrypoint", "sh", named(node), "-c", f"{look}; true").split() == []


def test_the_image_of_an_sl_adds_little_to_its_base() -> None:
    added = inspected(named("sl"))["Size"] - inspected(BASE_IMAGE)["Size"]
    assert added <= SL_LIMIT_BYTES, f"{added / 1e6:.0f} MB"


@pytest.mark.parametrize(("image", "lock"), [("sn", "node"), ("sn", "chain"), ("ml", "client")])
def test_what_an_image_consists_of_is_written_down(image: str, lock: str) -> None:
    sbom = json.loads((ROOT / "dist" / "sbom" / f"{image}-{TAG}.cdx.json").read_text())
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    listed = {component["purl"].partition("?")[0] for component in sbom["components"]}
    pinned = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "docker" / "locks" / f"{lock}.txt").read_text(), re.MULTILINE)
    assert listed >= {f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{version}" for name, version in pinned}
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in listed)
    assert any(purl.startswith("pkg:golang/") for purl in listed) == (image == "sn")


def test_the_wheel_of_the_client_is_installed_under_the_name_that_build_tasks_copy(tmp_path: Path) -> None:
    made = subprocess.run(["docker/client-wheel", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    tmp_path.chmod(0o755)
    script = (
        "python3 -m venv /tmp/venv"
        f" && /tmp/venv/bin/pip install --quiet --no-deps --no-index /wheels/{FAMILIAR_WHEEL}"
        " && /tmp/venv/bin/python -c 'from importlib.util import find_spec as f; print(f(\"swarmlearning.tf\").name)'"
    )
    run = ["run", "--rm", "--network", "none", "--volume", f"{tmp_path}:/wheels:ro", BASE_IMAGE, "sh", "-c", script]
    assert docker(*run).split() == ["swarmlearning.tf"]


@pytest.mark.parametrize("node", NODES)
def test_a_node_without_its_certificate_says_so_in_one_sentence(node: str) -> None:
    command = ["docker", "run", "--rm", "--read-only", "--env", "THIS_NODE_IP=x", "--env", "SN_I_AM_SENTINEL=true"]
    done = subprocess.run([*command, named(node)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 10, done.stderr
    assert done.stderr.startswith("ERROR: ")
    assert len(done.stderr.splitlines()) == 1


def test_an_sn_says_what_a_sandbox_must_allow_for_its_chain() -> None:
    script = "from services.chain.binary import require_geth; require_geth()"
    command = ["docker", "run", "--rm", "--security-opt", f"seccomp={STRICT}", "--entrypoint", "python3", named("sn")]
    done = subprocess.run([*command, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert "the system call eventfd is forbidden (Operation not permitted)" in done.stderr


@pytest.fixture
def license_server(tmp_path: Path) -> Iterator[str]:
    """Its container, with a root file system that cannot be written and without any capability."""
    authority = Authority.create(tmp_path / "ca", "Test")
    files = authority.issue("license", "license-1", ["localhost"], tmp_path / "cert")
    for path in (tmp_path, tmp_path / "cert"):
        path.chmod(0o755)
    files.key.chmod(0o644)  # the container's user is not the one of the tests
    (tmp_path / "cert" / "ca.pem").write_bytes(authority.cacert.read_bytes())
    container = docker(
        "run", "--detach", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        "--health-interval", "1s", "--volume", f"{tmp_path / 'cert'}:/cert:ro", "--volume", "/platform/swarm/SMLNODE",
        named("license-server"),
        "--cert", f"/cert/{files.cert.name}", "--key", f"/cert/{files.key.name}", "--cacert", "/cert/ca.pem",
    ).strip()  # fmt: skip
    yield container
    docker("rm", "--force", "--volumes", container)


def until_health(container: str, wanted: str, within_s: int = 120) -> None:
    command = [
        "timeout", str(within_s), "docker", "events", "--since", "0", "--filter", f"container={container}",
        "--filter", "event=health_status", "--format", "{{.Action}}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        for line in events.stdout:
            if line.strip().endswith(f" {wanted}"):
                events.terminate()
                return
    raise AssertionError(f"it is not {wanted}:\n{docker('logs', container)}")


def test_a_node_is_healthy_while_it_works_and_not_when_it_hangs(license_server: str) -> None:
    until_health(license_server, "healthy")
    program = docker("exec", license_server, "sh", "-c", "cat /proc/1/task/1/children").split()[0]
    docker("exec", license_server, "python3", "-c", f"import os; os.kill({program}, 19)")
    until_health(license_server, "unhealthy")
    docker("exec", license_server, "python3", "-c", f"import os; os.kill({program}, 18)")


def test_a_node_stops_in_order_and_soon(license_server: str) -> None:
    until_health(license_server, "healthy")
    docker("stop", "--time", str(STOPPED_WITHIN_S), license_server)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", license_server).strip() == "0"
