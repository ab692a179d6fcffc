"""`swarm license-server` as a process: its errors when it cannot start, and what a kill leaves behind."""

import socket
import ssl
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from services.local.process import Child, Launch, node_environment

ROOT = Path(__file__).parents[2]
IDENTITY_EXIT, NETWORK_EXIT, STORAGE_EXIT, SETTINGS_EXIT = 10, 12, 17, 2


@pytest.fixture
async def launch(pki, tmp_path) -> AsyncIterator:
    """Starts license servers with flags; those that still run are stopped in order at the end."""
    children: list[Child] = []
    good = pki.issue("license", "license-1")

    def start(*flags: str, files=good, data_dir: Path = tmp_path / "data", **environment: str) -> Child:
        argv = (
            sys.executable, "-m", "services.cli", "license-server", "--host", "127.0.0.1", "--data-dir", str(data_dir),
            "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(pki.cacert), *flags,
        )  # fmt: skip
        log = tmp_path / f"license-{len(children)}.log"
        child = Child.start(Launch("license-1", argv, log, node_environment(**environment), cwd=ROOT))
        children.append(child)
        return child

    yield start
    killed = [child.name for child in children if await child.stop()]
    assert not killed, "a license server did not stop by itself"


async def ended(child: Child) -> tuple[int, str]:
    """Exit code and everything it wrote."""
    return await child.wait(), child.log.read_text()


async def acquire(port: int, context: ssl.SSLContext) -> tuple[int, dict]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"https://localhost:{port}/v1/leases", json={"feature": "SL"}, ssl=context) as response,
    ):
        return response.status, await response.json()


async def test_an_encrypted_key_is_of_no_use_without_its_passphrase(launch, pki, tmp_path):
    files = pki.issue("license", "license-1", out_dir=tmp_path / "node")
    key = load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open it")))
    code, log = await ended(launch("--port", "0", files=files))
    assert code == IDENTITY_EXIT
    assert "passphrase" in log.splitlines()[-1]
    (tmp_path / "passphrase").write_text("open it\n")
    child = launch("--port", "0", files=files, SWARM_ID_KEY_PASSPHRASE_FILE=str(tmp_path / "passphrase"))
    assert (await child.ready())["port"]


async def test_ready_server_says_its_port_and_stops_when_told(launch):
    child = launch("--port", "0")
    port = (await child.ready())["port"]
    assert not await child.stop()
    code, log = await ended(child)
    assert code == 0
    assert f"License server ready on port: {port}" in log
    assert "License server stopped" in log
    assert "SN=16 SL=256 SWOP=64 SWCI=16" in log


async def test_killed_server_keeps_its_seats_over_a_restart(pki, launch):
    flags = ("--port", "0", "--seats", "SL=2")
    contexts = [pki.identity("sl", f"sl-{number}").client_context() for number in (1, 2, 3)]
    first = launch(*flags)
    port = (await first.ready())["port"]
    leases = [await acquire(port, context) for context in contexts[:2]]
    assert [status for status, _ in leases] == [200, 200]
    first.kill()
    await first.wait()

    second = launch("--port", "0")
    port = (await second.ready())["port"]
    status, answer = await acquire(port, contexts[2])
    assert status == 409
    assert answer["facts"]["holders"] == "sl-1, sl-2"
    status, again = await acquire(port, contexts[0])
    assert status == 200
    assert again["lease"] == leases[0][1]["lease"]
    assert again["token"] > leases[1][1]["token"]


async def test_port_in_use_is_named(launch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, log = await ended(launch("--port", str(port)))
    assert code == NETWORK_EXIT
    assert f"ERROR: Port {port} on 127.0.0.1 is in use by another program" in log
    assert "Traceback" not in log


async def test_data_directory_that_cannot_be_written_is_named(launch, tmp_path):
    (tmp_path / "file").write_text("")
    code, log = await ended(launch("--port", "0", data_dir=tmp_path / "file" / "data"))
    assert code == STORAGE_EXIT
    assert f"ERROR: {tmp_path}/file/data cannot be written" in log
    assert "Traceback" not in log


async def test_two_servers_on_the_same_data_lend_the_same_seats(pki, launch):
    ports = [(await launch("--port", "0", "--seats", "SL=1").ready())["port"] for _ in range(2)]
    contexts = [pki.identity("sl", f"sl-{number}").client_context() for number in (1, 2)]
    status, lease = await acquire(ports[0], contexts[0])
    assert status == 200
    assert (await acquire(ports[1], contexts[1]))[0] == 409
    status, same = await acquire(ports[1], contexts[0])
    assert (status, same["lease"]) == (200, lease["lease"])


async def test_certificate_of_another_role_is_refused(pki, launch):
    code, log = await ended(launch("--port", "0", files=pki.issue("sl", "sl-1")))
    assert code == IDENTITY_EXIT
    assert "ERROR: sl-1 has the role sl, but" in log
    assert "needs license" in log


async def test_expired_certificate_is_refused(pki, launch, tmp_path):
    past = datetime.now(UTC) - timedelta(days=1)
    old = pki.issue("license", "license-1", not_before=past - timedelta(days=1), not_after=past)
    code, log = await ended(launch("--port", "0", files=old))
    assert code == IDENTITY_EXIT
    assert "of license-1 expired at" in log
    assert not (tmp_path / "data").exists()


async def test_certificate_of_another_ca_is_refused(foreign_pki, launch):
    code, log = await ended(launch("--port", "0", files=foreign_pki.issue("license", "license-1")))
    assert code == IDENTITY_EXIT
    assert "does not end in a CA of" in log


async def test_mistyped_variable_is_refused_with_the_nearest_name(launch):
    code, log = await ended(launch("--port", "0", SWARM_LICENSE_SEAT="SL=1"))
    assert code == SETTINGS_EXIT
    assert "Did you mean SWARM_LICENSE_SEATS?" in log


async def test_plain_http_is_not_spoken(pki, launch):
    port = (await launch("--port", "0").ready())["port"]
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://localhost:{port}/v1/status")
    status, _ = await acquire(port, pki.identity("sl", "sl-1").client_context())
    assert status == 200
