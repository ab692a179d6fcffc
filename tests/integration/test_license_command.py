"""`swarm license` with a running server: what issuers and operators type, and what they read."""

import asyncio
import io
import json
from pathlib import Path

import pytest
from license_servers import Servers, callers, license_servers

from services.cli.main import main

ADMIN_EXIT, LICENSE_EXIT, UNREACHABLE_EXIT, SETTINGS_EXIT, STORAGE_EXIT = 20, 11, 11, 2, 17


class Operator:
    """Runs commands as an administrator, and reads their output."""

    def __init__(self, pki, servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
        files = pki.issue("admin", "ada")
        self.cacert = str(pki.cacert)
        self.whom = ["--server", servers.address("ls-1")]
        self.shown = [*self.whom, "--cert", str(files.cert), "--key", str(files.key), "--cacert", self.cacert]
        self._capsys = capsys

    async def types(self, *words: str, code: int = 0, whom: list[str] | None = None) -> str:
        asked = self.shown if whom is None else whom
        ended = await asyncio.to_thread(main, ["license", *asked, *words])
        printed = self._capsys.readouterr()
        assert ended == code, printed.err
        assert "Traceback" not in printed.err
        return printed.err if code else printed.out


@pytest.fixture
async def servers(pki, tmp_path):
    async with license_servers(pki, tmp_path) as found:
        await found.start("ls-1", "--seats", "SL=1")
        yield found


@pytest.fixture
def operator(pki, servers, capsys) -> Operator:
    return Operator(pki, servers, capsys)


async def issued(operator: Operator, directory: Path, *more: str, license: str = "L1", seats: str = "SL=5") -> Path:
    out = directory / f"{license}.license"
    await operator.types(
        "issue", "--key", str(directory / "issuer-key.pem"), "--id", license, "--issuer", "Consortium",
        "--licensee", "Hospital A", "--seats", seats, "--out", str(out), *more, whom=[],
    )  # fmt: skip
    return out


async def test_administrator_whose_ca_the_server_does_not_know_reads_why(operator, pki, foreign_pki, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(pki.cacert.read_bytes() + foreign_pki.cacert.read_bytes())
    files = foreign_pki.issue("admin", "eve")
    whom = [*operator.whom, "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(bundle)]
    said = await operator.types("pools", whom=whom, code=UNREACHABLE_EXIT)
    assert "does not trust the CA that issued our certificate" in said
    assert said.count("\n") == 1


async def test_license_goes_from_its_issuer_to_seats_on_the_server(operator, tmp_path):
    await operator.types("keygen", "--dir", str(tmp_path), whom=[])
    assert (tmp_path / "issuer-key.pem").stat().st_mode & 0o077 == 0
    file = await issued(operator, tmp_path, "--days", "30")
    assert "SL=5" in await operator.types("show", str(file), whom=[])
    assert "untrusted" in await operator.types("preview", str(file))
    assert "is not trusted here" in await operator.types("install", str(file), code=LICENSE_EXIT)
    await operator.types("trust", "Consortium", str(tmp_path / "issuer-pub.pem"))
    assert "can be installed   yes" in await operator.types("preview", str(file))
    assert "Installed L1 of Consortium: SL=5 until" in await operator.types("install", str(file))
    pools = {pool["feature"]: pool["capacity"] for pool in json.loads(await operator.types("pools", "--json"))}
    assert pools["SL"] == 6
    await operator.types("remove", "L1")
    assert "L1" not in await operator.types("list")


async def test_forged_license_and_one_for_another_server_are_refused_in_words(operator, tmp_path):
    await operator.types("keygen", "--dir", str(tmp_path), whom=[])
    await operator.types("trust", "Consortium", str(tmp_path / "issuer-pub.pem"))
    file = await issued(operator, tmp_path)
    forged = tmp_path / "forged"
    forged.write_text(file.read_text().replace('"capacity": 5', '"capacity": 500'))
    assert "the file was changed after it was signed" in await operator.types("install", str(forged), code=LICENSE_EXIT)
    other = await issued(operator, tmp_path, "--lock-code", "AAAA-BBBB", license="L2")
    assert "lock code AAAA-BBBB" in await operator.types("install", str(other), code=LICENSE_EXIT)
    ours = (await operator.types("settings")).split("lock_code")[1].strip()
    mine = await issued(operator, tmp_path, "--lock-code", ours, license="L3")
    assert "Installed L3" in await operator.types("install", str(mine))
    assert "exists already" in str(await _again(operator, tmp_path))


async def _again(operator: Operator, directory: Path) -> str:
    return await operator.types("keygen", "--dir", str(directory), code=STORAGE_EXIT, whom=[])


async def test_seat_is_revoked_by_the_name_of_its_node_and_given_again(pki, operator, servers):
    address = servers.address("ls-1")
    async with callers(pki, range(1, 2)) as (node,):
        assert await node.acquire(address) == 200
        assert "sl-1" in await operator.types("leases")
        assert "Revoked the seat of sl-1 for SL" in await operator.types("revoke", "sl-1", "--reason", "moved")
        assert await node.renew(address) == 403
        assert await node.release(address) == 204
        assert await node.acquire(address) == 403
        assert "sl-1" in await operator.types("denials")
        assert "sl-1 may take a seat for SL again" in await operator.types("readmit", "sl-1")
        said = await operator.types("readmit", "sl-1", code=ADMIN_EXIT)
        assert "There is no revoked or expelled node sl-1" in said
        assert await node.acquire(address) == 200
    assert "lease revoked" in await operator.types("audit")
    assert "each follows from the one before" in await operator.types("audit", "--verify")
    assert "SL,sl-1" in await operator.types("usage")


async def test_users_and_tokens_are_made_and_a_token_does_what_its_scopes_say(operator, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    await operator.types("add-user", "bob", "--role", "operator")
    assert "operator" in await operator.types("users")
    await operator.types("change-user", "bob", "--role", "viewer", "--disable")
    assert "viewer  off            disabled" in await operator.types("users")
    assert "bob can sign in from every address again" in await operator.types("unlock-user", "bob")
    token = (await operator.types("add-token", "monitoring", "--scope", "leases:read", "--days", "1")).strip()
    assert token not in await operator.types("tokens")
    monkeypatch.setenv("SWARM_LICENSE_TOKEN", token)
    with_token = [*operator.whom, "--cacert", operator.cacert]
    assert "lease" in await operator.types("leases", whom=with_token)
    assert "needs licenses:read" in await operator.types("list", code=ADMIN_EXIT, whom=with_token)
    monkeypatch.delenv("SWARM_LICENSE_TOKEN")
    await operator.types("revoke-token", token.split("_")[1])
    await operator.types("remove-user", "bob")
    monkeypatch.setenv("SWARM_LICENSE_TOKEN", token)
    assert "token is not known" in await operator.types("leases", code=ADMIN_EXIT, whom=with_token)


async def test_backup_brings_back_what_was_and_keeps_what_was_logged_since(operator, tmp_path):
    await operator.types("reserve", "SL", "sl-*", "1")
    await operator.types("backup", str(tmp_path / "b.gz"))
    assert (tmp_path / "b.gz").stat().st_mode & 0o077 == 0
    await operator.types("reserve", "SL", "sl-*", "0")
    await operator.types("settings", "lease_s=10", "webhook_url=https://example.org/hook")
    await operator.types("restore", str(tmp_path / "b.gz"))
    pools = {pool["feature"]: pool for pool in json.loads(await operator.types("pools", "--json"))}
    assert pools["SL"]["reserved"] == 1
    assert "lease_s                30" in await operator.types("settings")
    log = await operator.types("audit")
    assert "backup restored" in log
    assert "settings changed" in log
    assert "each follows from the one before" in await operator.types("audit", "--verify")


async def test_what_cannot_be_is_one_sentence(operator, pki, tmp_path):
    files = pki.issue("sl", "sl-1")
    as_node = [*operator.whom, "--cert", str(files.cert), "--key", str(files.key), "--cacert", operator.cacert]
    assert "has the role sl, not admin" in await operator.types("list", code=ADMIN_EXIT, whom=as_node)
    assert "cannot be read" in await operator.types("install", str(tmp_path / "no"), code=SETTINGS_EXIT)
    assert "must be 3 to 40" in await operator.types("settings", "lease_s=90", code=ADMIN_EXIT)
    gone = [*operator.shown]
    gone[1] = "localhost:1"
    assert "cannot be reached" in await operator.types("list", code=LICENSE_EXIT, whom=gone)
