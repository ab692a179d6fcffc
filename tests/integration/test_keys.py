"""A node is known by its key: certificates may be renewed, and a certificate of its name with another key
is useless.
"""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, PublicFormat
from sl_swarm import WITHIN_S, Arrays, same, swarm_of
from sn_swarm import running_sn
from structlog.testing import capture_logs
from two_organizations import TwoOrganizations

from services.chain.events import LeaderDeposed, LeftOut, RoundAccepted, RoundReopened
from services.cli.main import main
from services.errors import (
    HandoverRefused,
    KeyWasReplaced,
    NameTaken,
    NotAMember,
    NotOfOrganization,
    PeerCertificateExpired,
)
from services.identity import organizations, peers, renewed_files
from services.identity.authority import IssuedFiles
from services.identity.certificates import read_chain, read_key
from services.identity.handover import Handover
from services.identity.identity import Identity
from services.local.certificates import certificates
from services.local.plan import SwarmPlan
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn import handing_over
from services.sn.node import RunningSN
from swarm_callback.errors import ChannelClosed, Refused


def model(seed: int) -> Arrays:
    return {"w": np.random.default_rng(seed).standard_normal(12).astype(np.float32)}


def renew(pki: Any, *files: Any) -> None:
    """Renews certificates as an operator does, so that their bytes change."""
    before = [one.cert.read_bytes() for one in files]
    certs = [str(one.cert) for one in files]
    assert main(["certs", "renew", "--dir", str(pki.authority.directory), "--days", "90", *certs]) == 0
    assert all(one.cert.read_bytes() != was for one, was in zip(files, before, strict=True))


def rotate(pki: Any, *files: Any) -> None:
    """Makes a new key, to which the old one hands over."""
    for one in files:
        before = loaded(one).fingerprint
        where = ["--cert", str(one.cert), "--key", str(one.key)]
        assert main(["certs", "rotate", "--dir", str(pki.authority.directory), *where]) == 0
        assert loaded(one).fingerprint != before


def ending_soon(pki: Any, role: str, name: str) -> Any:
    """Files of a certificate that has expired after ``expire``."""
    return pki.issue(role, name, not_after=datetime.now(UTC) + timedelta(hours=1))


def expire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moves the clock by hours for checks of certificates on existing connections."""
    later = (datetime.now(UTC) + timedelta(hours=2)).timestamp()
    monkeypatch.setattr(peers, "time", lambda: later)


def loaded(files: Any) -> Identity:
    return Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)


@pytest.mark.parametrize("change", [renew, rotate], ids=["certificate", "key"])
async def test_a_node_with_a_renewed_certificate_or_key_goes_on_under_its_name_in_a_running_training(
    pki: Any, tmp_path: Path, change: Any
) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        stopped, back = threading.Event(), threading.Event()
        waits = {"sl-1": stopped, "sl-2": back}

        def run(name: str) -> asyncio.Task[str]:
            between = lambda number: number == 0 or waits[name].wait(WITHIN_S)  # noqa: E731
            return asyncio.create_task(swarm.ml(name, model(1), same, min_peers=2, between=between).run())

        before = {name: run(name) for name in waits}
        await swarm.until(lambda view: view.last_result is not None)
        swarm.nodes["sl-1"].stop.set()
        await swarm.nodes["sl-1"].ended()
        stopped.set()
        with pytest.raises((Refused, ChannelClosed)):
            await before["sl-1"]
        change(pki, swarm.issued["sl-1"])
        await swarm.sl("sl-1")
        again = run("sl-1")
        await swarm.until(lambda view: view.participants["sl-1"].active)
        back.set()
        assert len(set(await asyncio.gather(again, before["sl-2"]))) == 1
        assert sorted(swarm.view.participants) == ["sl-1", "sl-2"]
        assert swarm.view.participants["sl-1"].fingerprint.hex() == loaded(swarm.issued["sl-1"]).fingerprint


@pytest.mark.parametrize("change", [renew, rotate], ids=["certificate", "key"])
async def test_an_sn_with_a_renewed_certificate_or_key_starts_again_and_knows_its_swarm(
    pki: Any, tmp_path: Path, change: Any
) -> None:
    files = pki.issue("sn", "sn-1")
    for _ in range(2):
        async with (
            running_sn(loaded(files), tmp_path / "sn") as sn,
            SNClient(f"localhost:{sn.port}", pki.identity("admin", "op")) as client,
        ):
            nodes = (await client.network.ListNodes(pb.ListNodesRequest())).nodes
            assert [(node.name, node.present) for node in nodes] == [("sn-1", True)]
        change(pki, files)


async def certificate_at(port: int, caller: Identity) -> x509.Certificate:
    """The certificate of the server at this port."""
    context = caller.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(der)


@pytest.mark.parametrize("of", [(renew, "all"), (rotate, "all"), (rotate, "one")], ids=["certificates", "keys", "key"])
async def test_nodes_take_over_new_files_while_they_train_and_no_round_misses_anybody(
    pki: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    of: tuple[Any, str],
) -> None:
    """The old key is invalid at once after the handover: any use of it fails. All old certificates expire, which ends
    all that was opened with them.
    """
    monkeypatch.setattr(renewed_files, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(handing_over, "OVERLAP_S", 0)
    monkeypatch.setattr(organizations, "LOOK_EVERY_S", 0.05)
    names = [f"sl-{number}" for number in range(1, 4)]
    change, whose = of
    soon = lambda name: whose == "all" or name == names[-1]  # noqa: E731
    issued = {name: ending_soon(pki, "sl", name) if soon(name) else pki.issue("sl", name) for name in names}
    sn = ending_soon(pki, "sn", "sn-1") if soon("sn-1") else pki.issue("sn", "sn-1")
    files = renewed_files.IdentityFiles(sn.cert, sn.key, sn.cacert, None)
    before, after = threading.Event(), threading.Event()
    large = {"w": np.random.default_rng(1).standard_normal(1_500_000).astype(np.float32)}  # so the merge is shared
    async with (
        renewed_files.renewed_files(lambda: files, "sn") as identity,
        swarm_of(pki, tmp_path, sn_identity=identity) as swarm,
    ):
        swarm.issued |= issued
        for name in names:
            await swarm.sl(name)

        def between(number: int) -> None:
            if number == 1:
                before.set()
                after.wait(WITHIN_S)

        programs = [swarm.ml(name, large, same, rounds=4, between=between) for name in names]
        training = [asyncio.create_task(program.run()) for program in programs]
        async with asyncio.timeout(WITHIN_S):
            await asyncio.to_thread(before.wait, WITHIN_S)
            changed = {swarm.sn_port: sn, swarm.licenses_port: swarm.issued["license"]}
            changed |= {swarm.nodes[name].facts["port"]: swarm.issued[name] for name in names}
            if whose == "one":
                changed = dict([changed.popitem()])
            change(pki, *changed.values())
            caller = pki.identity("sl", "sl-9")
            for port, one in changed.items():
                while await certificate_at(port, caller) != read_chain(one.cert)[0]:
                    pass
            expire(monkeypatch)
            said = ""
            while not all(f"of sl {name} expired at" in said for name in names if soon(name)):
                await certificate_at(swarm.sn_port, caller)
                said += capsys.readouterr().out
            assert "refused a reader" not in said
        after.set()
        assert len(set(await asyncio.gather(*training))) == 1
        events = await swarm.events()
        assert {len(program.answers) for program in programs} == {6}
        assert [event.participants for event in events if isinstance(event, RoundAccepted)] == [3] * 6
        assert not [event for event in events if isinstance(event, LeftOut | LeaderDeposed | RoundReopened)]
        assert "refused a reader" not in capsys.readouterr().out


async def test_a_node_whose_certificate_expires_takes_no_part_until_it_has_a_new_one(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on at once; with a new certificate the node takes part again, in the same run of its program."""
    monkeypatch.setattr(renewed_files, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(organizations, "LOOK_EVERY_S", 0.05)
    before, merged_without, told = threading.Event(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def noticed(text: str) -> None:
        if "a certificate has expired, waiting for a new one" in text:
            loop.call_soon_threadsafe(told.set)

    async with swarm_of(pki, tmp_path, lost_after_s=0.5) as swarm:
        swarm.issued["sl-1"] = ending_soon(pki, "sl", "sl-1")
        for name in ("sl-1", "sl-2", "sl-3"):
            await swarm.sl(name)

        def between(number: int) -> None:
            if number == 0:
                before.wait(WITHIN_S)

        def others(number: int) -> None:
            between(number)
            if number == 2:
                merged_without.wait(WITHIN_S)

        programs = [
            swarm.ml(name, model(1), same, rounds=3, min_peers=2, between=between if name == "sl-1" else others)
            for name in swarm.nodes
        ]
        programs[0].noticed = noticed
        training = [asyncio.create_task(program.run()) for program in programs]
        await swarm.until(lambda view: view.last_result is not None)
        expire(monkeypatch)
        await swarm.until(lambda view: not view.participants["sl-1"].active)
        before.set()
        await swarm.until(lambda view: view.last_result.round == 3)
        async with asyncio.timeout(WITHIN_S):
            await told.wait()
        renew(pki, swarm.issued["sl-1"])
        await swarm.until(lambda view: view.participants["sl-1"].active)
        merged_without.set()
        assert len(set(await asyncio.gather(*training))) == 1
        accepted = [event for event in await swarm.events() if isinstance(event, RoundAccepted)]
        assert [event.participants for event in accepted[:3]] == [3, 2, 2]
        assert "sl-1" not in {event.leader for event in accepted[1:3]}


async def test_a_node_that_gets_no_new_certificate_ends_in_the_end_and_says_why(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with swarm_of(pki, tmp_path) as swarm:
        swarm.issued["sl-1"] = ending_soon(pki, "sl", "sl-1")
        node = await swarm.sl("sl-1", sn_patience_s=1.0)
        waiting = asyncio.create_task(swarm.ml("sl-1", model(1), same, min_peers=2).run())
        await swarm.until(lambda view: bool(view.check_ins))
        expire(monkeypatch)
        error = await node.ended()
        assert isinstance(error, PeerCertificateExpired)
        assert "The certificate of sl sl-1 expired at" in str(error)
        with pytest.raises(Refused, match="The certificate of sl sl-1 expired at"):
            await waiting


@dataclass
class Door:
    """An SN that a node, ``files``, calls with several keys in turn."""

    pki: Any
    sn: RunningSN
    files: Any
    request: pb.RegisterRequest = field(default_factory=lambda: pb.RegisterRequest(host="localhost", port=30305))

    async def hand_over(self, identity: Identity) -> bytes:
        async with self._client(identity) as client:
            reply = await client.network.HandOver(pb.HandOverRequest(handovers=identity.handovers))
        return bytes(reply.fingerprint)

    async def register(self, identity: Identity) -> None:
        async with self._client(identity) as client:
            await client.network.Register(self.request)

    async def replace_key(self, name: str, key: str) -> list[str]:
        async with self._client(self.pki.identity("admin", "op")) as client:
            request = pb.ReplaceKeyRequest(role="sl", name=name, fingerprint=bytes.fromhex(key))
            return list((await client.admin.ReplaceKey(request)).names)

    def _client(self, identity: Identity) -> SNClient:
        return SNClient(f"localhost:{self.sn.port}", identity)

    def copy(self, directory: Path) -> Any:
        """A copy of the node's current files."""
        directory.mkdir()
        cert, key = (shutil.copy(path, directory) for path in (self.files.cert, self.files.key))
        return IssuedFiles(Path(cert), Path(key), self.files.cacert)


@pytest.fixture
async def door(pki: Any, tmp_path: Path) -> AsyncIterator[Door]:
    async with running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn") as sn:
        yield Door(pki, sn, pki.issue("sl", "sl-1"))


async def test_several_new_keys_in_a_row_are_one_step_for_an_sn_that_saw_none_of_them(door: Door) -> None:
    await door.register(loaded(door.files))
    for _ in range(3):
        rotate(door.pki, door.files)
    newest = loaded(door.files)
    assert (await door.hand_over(newest)).hex() == newest.fingerprint
    await door.register(newest)


async def test_the_old_key_is_good_for_a_while_and_brings_no_other_key_in(door: Door, tmp_path: Path) -> None:
    await door.register(loaded(door.files))
    old = door.copy(tmp_path / "old")
    rotate(door.pki, door.files)
    await door.hand_over(loaded(door.files))
    await door.register(loaded(old))  # within the overlap
    rotate(door.pki, old)  # a thief of the old key, helped by a CA that issues a certificate
    stolen = loaded(old)
    with pytest.raises(NameTaken):
        await door.hand_over(stolen)
    with pytest.raises(NameTaken):
        await door.register(stolen)


async def test_a_key_that_was_replaced_does_not_come_back_by_an_older_handover(door: Door, tmp_path: Path) -> None:
    first = loaded(door.copy(tmp_path / "first"))
    await door.register(first)
    rotate(door.pki, door.files)
    second = loaded(door.copy(tmp_path / "second"))
    await door.hand_over(second)
    rotate(door.pki, door.files)
    third = loaded(door.files)
    await door.hand_over(third)
    with pytest.raises(NameTaken):  # two keys ago; replays the handover to the second key
        await door.hand_over(replace(first, handovers=second.handovers))
    back = Handover.sign(third.spiffe_id, read_key(third.key), first.fingerprint)
    with pytest.raises(KeyWasReplaced):
        await door.hand_over(replace(third, handovers=(back.content,)))
    assert (await door.hand_over(second)).hex() == third.fingerprint  # the second key is no longer valid


async def test_an_administrator_replaces_a_key_that_is_lost_and_the_old_one_is_refused_at_once(door: Door) -> None:
    lost = loaded(door.files)
    await door.register(lost)
    found = loaded(door.pki.issue("sl", "sl-1"))
    assert await door.replace_key("sl-1", found.fingerprint) == ["sl-1"]
    await door.register(found)
    with pytest.raises(NameTaken):
        await door.register(lost)
    with pytest.raises(KeyWasReplaced):
        await door.replace_key("sl-1", lost.fingerprint)
    with pytest.raises(NotAMember):
        await door.replace_key("sl-9", found.fingerprint)


async def test_a_node_shows_a_key_without_a_handover_once_an_administrator_has_replaced_its_own(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewed_files, "LOOK_EVERY_S", 0.05)
    own = door.copy(tmp_path / "own")
    files = renewed_files.IdentityFiles(own.cert, own.key, own.cacert, None)
    other = door.pki.issue("sl", "sl-1")
    async with (
        asyncio.timeout(WITHIN_S),
        renewed_files.renewed_files(lambda: files, "sl") as identity,
        SNClient(f"localhost:{door.sn.port}", identity) as client,
    ):
        await client.network.Register(door.request)
        known = identity.known_as
        with capture_logs() as logs:
            for path in ("cert", "key"):
                shutil.copy(getattr(other, path), getattr(own, path))
            while not any("is enrolled with another key" in entry.get("why", "") for entry in logs):
                await client.network.GetInfo(pb.GetInfoRequest())
        assert identity.known_as == known
        await door.replace_key("sl-1", loaded(other).fingerprint)
        while identity.known_as == known:
            await client.network.GetInfo(pb.GetInfoRequest())
        await client.network.Register(door.request)


async def test_an_administrator_replaces_keys_of_the_own_organization_alone(tmp_path: Path) -> None:
    two = TwoOrganizations.create(tmp_path / "two")
    key = bytes.fromhex("ab" * 32)
    async with running_sn(two.identity("sn", "b-sn"), tmp_path / "sn") as sn:
        for name in ("a-1", "b-1"):
            async with SNClient(f"localhost:{sn.port}", two.identity("sl", name)) as client:
                await client.network.Register(pb.RegisterRequest(host="localhost", port=30305))
        async with SNClient(f"localhost:{sn.port}", two.identity("swci", "b-swci")) as client:
            await client.admin.ReplaceKey(pb.ReplaceKeyRequest(role="sl", name="b-1", fingerprint=key))
            with pytest.raises(NotOfOrganization):
                await client.admin.ReplaceKey(pb.ReplaceKeyRequest(role="sl", name="a-1", fingerprint=key))


async def test_a_handover_that_the_known_key_has_not_signed_changes_nothing(door: Door) -> None:
    await door.register(loaded(door.files))
    other = door.pki.issue("sl", "sl-1")
    rotate(door.pki, other)
    thief = loaded(other)
    with pytest.raises(NameTaken):  # signed by an unknown key of this name
        await door.hand_over(thief)
    true, known = Handover.parse(thief.handovers[0]), loaded(door.files)
    for_another = Handover.sign(true.spiffe_id.replace("sl-1", "sl-2"), read_key(known.key), thief.fingerprint)
    with pytest.raises(NameTaken):  # for another name
        await door.hand_over(replace(thief, handovers=(for_another.content,)))
    public = read_chain(known.cert)[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    forged = replace(true, old_key=public)
    with pytest.raises(HandoverRefused, match="the old key has not signed it"):
        await door.hand_over(replace(thief, handovers=(forged.content,)))


def test_an_encrypted_key_gives_way_to_an_encrypted_one(pki: Any, tmp_path: Path) -> None:
    files, passphrase = pki.issue("sl", "sl-1", out_dir=tmp_path), tmp_path / "passphrase"
    passphrase.write_text("of this node\n")
    encrypted = BestAvailableEncryption(b"of this node")
    files.key.write_bytes(read_key(files.key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encrypted))
    where = ["--cert", str(files.cert), "--key", str(files.key), "--key-passphrase-file", str(passphrase)]
    assert main(["certs", "rotate", "--dir", str(pki.authority.directory), *where]) == 0
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in files.key.read_bytes()
    given = {"cert": files.cert, "key": files.key, "cacert": files.cacert}
    identity = Identity.load(**given, key_passphrase_file=passphrase)
    assert [Handover.parse(one).new for one in identity.handovers] == [identity.fingerprint]


def test_a_key_for_a_ca_elsewhere_comes_with_its_handover_and_a_request(pki: Any, tmp_path: Path) -> None:
    files = pki.issue("sl", "sl-1", out_dir=tmp_path)
    where = ["--cert", str(files.cert), "--key", str(files.key)]
    assert main(["certs", "rotate", *where]) == 0
    request, new = tmp_path / f"{files.key.name}.csr", tmp_path / f"{files.key.name}.new"
    assert main(["certs", "sign", "--dir", str(pki.authority.directory), str(request)]) == 0
    (tmp_path / f"{request.stem}-cert.pem").replace(files.cert)
    new.replace(files.key)
    identity = loaded(files)
    assert [Handover.parse(one).new for one in identity.handovers] == [identity.fingerprint]


async def test_another_key_of_the_name_is_refused_although_the_ca_is_trusted(pki: Any, tmp_path: Path) -> None:
    first, second = pki.issue("sl", "sl-1"), pki.issue("sl", "sl-1")
    async with running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn") as sn:
        request = pb.RegisterRequest(host="localhost", port=30305)
        async with SNClient(f"localhost:{sn.port}", loaded(first)) as client:
            await client.network.Register(request)
        async with SNClient(f"localhost:{sn.port}", loaded(second)) as client:
            with pytest.raises(NameTaken):
                await client.network.Register(request)


def test_a_local_swarm_keeps_its_keys_where_certificates_have_ended(tmp_path: Path) -> None:
    plan = SwarmPlan(tmp_path, sl_count=2)
    before = {name: loaded(files) for name, files in certificates(plan).items()}
    for files in certificates(plan).values():
        files.cert.unlink()
    after = {name: loaded(files) for name, files in certificates(plan).items()}
    assert {name: one.fingerprint for name, one in after.items()} == {n: one.fingerprint for n, one in before.items()}
