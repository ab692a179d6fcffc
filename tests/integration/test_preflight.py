"""`swarm preflight` with real nodes: it reports beforehand what would fail at a node's start, and what to do."""

import asyncio
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from mapped_ports import mapped_port
from sl_swarm import Swarm, swarm_of

from services.errors import HostNotReady
from services.licensing.servers import Servers
from services.licensing.swarms import told
from services.local.plan import CODE_ROOT
from services.local.process import node_environment
from services.preflight import host, identity, network
from services.preflight.report import Finding
from services.preflight.settings import PreflightSettings
from tests.free_ports import free_port


async def command(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of the command, errors included."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "preflight", *arguments, cwd=CODE_ROOT,
        env=node_environment(**environment), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


def settings(**given: Any) -> PreflightSettings:
    return PreflightSettings.load("preflight", {"engine": "none", **given})


def of(swarm: Swarm) -> dict[str, Any]:
    """The settings by which the nodes of a swarm are reached."""
    return {"sn_ip": f"localhost:{swarm.sn_port}", "apls_ip": "localhost", "apls_port": swarm.licenses_port}


async def looked(pki: Any, role: str = "sl", name: str = "sl-9", **given: Any) -> dict[str, Finding]:
    """The findings about the network, by check and, for ports, by role."""
    findings, _ = await network.look(settings(**given), pki.identity(role, name))
    return {" ".join([it.check, *it.subject.split()[:1][: it.check == "port"]]): it for it in findings}


async def test_a_host_that_is_ready_passes_every_check(pki: Any, tmp_path: Path) -> None:
    files = pki.issue("sl", "sl-2")
    async with swarm_of(pki, tmp_path, "sl-1") as swarm:
        code, said = await command(
            "--json", "--role", "sl", "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(pki.cacert),
            "--sn-ip", f"localhost:{swarm.sn_port}", "--apls-ip", "localhost", "--apls-port", str(swarm.licenses_port),
            "--host-ip", "127.0.0.1", "--port", str(free_port()), "--data-dir", str(tmp_path), "--engine", "none",
            "--min-free-gb", "0.001",
        )  # fmt: skip
    assert code == 0, said
    found = json.loads(said)
    assert found["counts"]["failed"] == found["counts"]["warning"] == 0
    passed = {check["check"] for check in found["checks"] if check["state"] == "ok"}
    assert passed >= {
        "certificate", "certificate dates", "private key", "certificate names", "version", "clock", "port",
        "announced address", "license", "named pipes", "disk", "MTU",
    }  # fmt: skip
    assert any("sl sl-1 answers with the right certificate" in check["found"] for check in found["checks"])


async def test_a_host_that_is_not_ready_gets_a_table_and_an_exit_code(pki: Any, tmp_path: Path) -> None:
    files = pki.issue("sl", "sl-2", ["elsewhere.example"])
    nobody = free_port()
    code, said = await command(
        "--role", "sn", "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(pki.cacert),
        "--data-dir", str(tmp_path / "missing"), "--engine", "none", "--peer", f"sn@[::1]:{nobody}",
    )  # fmt: skip
    assert code == HostNotReady.exit_code
    assert "sl-2 has the role sl" in said
    assert "Make it, or name another --data-dir." in said
    assert "checks failed." in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--role", "boss"], "'boss' is not a role"),
        (["--peer", "sn-1:30304"], "is not ROLE@HOST:PORT"),
        (["--peer", "sn@sn-1"], "names no port"),
        (["--engine", "rkt"], "none of auto, docker, podman, none"),
    ],
)
async def test_options_that_make_no_sense_are_one_sentence(arguments: list[str], words: str) -> None:
    code, said = await command(*arguments)
    assert (code, said.count("\n")) == (2, 1)
    assert words in said


async def test_a_certificate_that_peers_would_refuse_is_told_with_the_remedy(
    pki: Any, foreign_pki: Any, tmp_path: Path
) -> None:
    files = pki.issue("sl", "sl-2", ["elsewhere.example"])
    who, finding = identity.load(settings(cert=files.cert, key=files.key, cacert=foreign_pki.cacert), "sl")
    assert who is None
    assert finding.state == "failed"
    assert finding.advice.startswith("Add the CA that issued it")
    files.key.chmod(0o644)
    told = settings(cert=files.cert, key=files.key, cacert=pki.cacert, host_ip="10.1.2.3")
    who, _ = identity.load(told, "sl")
    assert who is not None
    states = {finding.check: finding.state for finding in identity.look(told, who)}
    assert states == {"certificate dates": "ok", "private key": "warning", "certificate names": "failed"}


async def test_a_foreign_certificate_gets_no_further_than_the_first_sn(
    pki: Any, foreign_pki: Any, tmp_path: Path
) -> None:
    async with swarm_of(pki, tmp_path) as swarm:
        found = await looked(foreign_pki, **of(swarm))
    assert found["SN"].state == found["license"].state == "failed"
    assert "was not issued by a CA of" in found["SN"].found
    assert found["SN"].advice


async def test_another_node_behind_a_port_is_noticed(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path) as swarm:
        wrong = await looked(pki, peers=[f"sn@localhost:{swarm.licenses_port}"])
        right = await looked(pki, peers=[f"license@localhost:{swarm.licenses_port}"])
    closed = await looked(pki, peers=[f"p2p@localhost:{free_port()}", f"sl@localhost:{free_port()}"])
    assert wrong["port sn"].state == "failed"
    assert "license apls answers, not the one that sn should show" in wrong["port sn"].found
    assert right["port license"].state == "ok"
    assert [closed[port].state for port in ("port p2p", "port sl")] == ["failed", "failed"]


async def test_an_announced_address_must_lead_back_here(pki: Any, tmp_path: Path) -> None:
    inner = free_port()
    async with mapped_port() as mapping:
        mapping.target = inner
        given: dict[str, Any] = {"host_ip": "127.0.0.1", "port": mapping.port, "bind_port": inner}
        assert (await looked(pki, **given))["announced address"].state == "ok"
        async with swarm_of(pki, tmp_path) as swarm:
            mapping.target = swarm.licenses_port
            elsewhere = (await looked(pki, **given))["announced address"]
            taken = (await looked(pki, host_ip="127.0.0.1", port=swarm.licenses_port))["announced address"]
    assert elsewhere.state == taken.state == "failed"
    assert "in use on this host by license apls" in taken.found


async def test_seats_are_counted_before_a_node_needs_one(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", seats="SN=1,SL=1") as swarm:
        found = (await looked(pki, name="sl-2", **of(swarm)))["license"]
        holder = (await looked(pki, name="sl-1", **of(swarm)))["license"]
    assert (found.state, found.found) == ("failed", "1 of 1 seats for SL in use")
    assert holder.state == "ok"


async def test_two_swarms_under_one_license_server_are_named(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path) as swarm:
        for name, network_contract in (("sn-7", "0x" + "aa" * 20), ("sn-8", "0x" + "bb" * 20)):
            servers = Servers([f"localhost:{swarm.licenses_port}"], pki.identity("sn", name))
            await told(servers, "SN", network_contract, f"{name}.example:30304")
            await servers.close()
        found = (await looked(pki, **of(swarm)))["swarms"]
    assert found.state == "warning"
    assert "sn-7 at sn-7.example:30304; sn-8 at sn-8.example:30304" in found.found


@pytest.mark.parametrize(("ahead_s", "state"), [(0.0, "ok"), (5.0, "warning"), (60.0, "failed"), (-60.0, "failed")])
async def test_clock_and_version_are_held_against_the_sn(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float, state: str
) -> None:
    ours = types.SimpleNamespace(time=lambda: network_time.time() + ahead_s, monotonic=network_time.monotonic)
    monkeypatch.setattr(network, "time", ours)
    monkeypatch.setattr(network, "version", lambda _: "0.0.1")
    async with swarm_of(pki, tmp_path) as swarm:
        found = await looked(pki, **of(swarm))
    assert found["clock"].state == state
    assert found["version"].state == "failed"


network_time = network.time


def test_what_the_host_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho no driver is loaded; exit 9\n")
    smi.chmod(0o755)
    told = settings(engine="auto", gpu=True, min_free_gb=1e9, data_dir=Path("/proc"))
    found = {finding.check: finding for finding in host.look(told, "swop", ["127.0.0.1"])}
    assert {check for check, it in found.items() if it.state == "failed"} == {
        "named pipes", "disk", "container engine", "GPU",
    }  # fmt: skip
    assert all(it.advice for it in found.values() if it.state == "failed")
    assert f"user {os.geteuid()}" in found["named pipes"].found
    smi.write_text("#!/bin/sh\necho NVIDIA H100, 81559 MiB\n")
    assert next(it for it in host.look(told, "sl", []) if it.check == "GPU").state == "ok"
    engine = next(it for it in host.look(told, "sl", []) if it.check == "container engine")
    assert engine.state == "warning"  # only a SWOP needs one


@pytest.mark.parametrize("enforces", [True, False])
def test_a_host_whose_mounts_need_labels_is_told_so(monkeypatch: pytest.MonkeyPatch, *, enforces: bool) -> None:
    monkeypatch.setattr(host, "selinux_enforces", lambda: enforces)
    found = {finding.check: finding for finding in host.look(settings(), "sl", [])}
    assert ("SELinux" in found) is enforces
    assert not enforces or (found["SELinux"].state, "chcon" in found["SELinux"].advice) == ("warning", True)
