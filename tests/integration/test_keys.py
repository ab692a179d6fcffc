"""A node is known by its key: certificates may be renewed, and others of its name are of no use to anybody."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import WITHIN_S, Arrays, swarm_of
from sn_swarm import running_sn

from services.cli.main import main
from services.errors import NameTaken
from services.identity.identity import Identity
from services.local.certificates import certificates
from services.local.plan import SwarmPlan
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from swarm_callback.errors import ChannelClosed, Refused


def model(seed: int) -> Arrays:
    return {"w": np.random.default_rng(seed).standard_normal(12).astype(np.float32)}


def same(arrays: Arrays, _number: int) -> Arrays:
    return arrays


def renew(pki: Any, *files: Any) -> None:
    """As an operator does; the certificates have other bytes then."""
    before = [one.cert.read_bytes() for one in files]
    certs = [str(one.cert) for one in files]
    assert main(["certs", "renew", "--dir", str(pki.authority.directory), "--days", "90", *certs]) == 0
    assert all(one.cert.read_bytes() != was for one, was in zip(files, before, strict=True))


def loaded(files: Any) -> Identity:
    return Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)


async def test_a_node_with_a_renewed_certificate_goes_on_under_its_name_in_a_running_training(
    pki: Any, tmp_path: Path
) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        stopped, back = threading.Event(), threading.Event()
        waits = {"sl-1": stopped, "sl-2": back}

        def run(name: str) -> asyncio.Task[str]:
            between = lambda number: number == 0 or waits[name].wait(WITHIN_S)  # noqa: E731
            return asyncio.create_task(swarm.ml(name, model(1), same, min_peers=2, between=between).run())

        before = {name: run(name) for name in waits}
        await swarm.until(lambda view: view.last_result is not None)
        key = swarm.view.participants["sl-1"].fingerprint
        swarm.nodes["sl-1"].stop.set()
        await swarm.nodes["sl-1"].ended()
        stopped.set()
        with pytest.raises((Refused, ChannelClosed)):
            await before["sl-1"]
        renew(pki, swarm.issued["sl-1"])
        await swarm.sl("sl-1")
        again = run("sl-1")
        await swarm.until(lambda view: view.participants["sl-1"].active)
        back.set()
        assert len(set(await asyncio.gather(again, before["sl-2"]))) == 1
        assert sorted(swarm.view.participants) == ["sl-1", "sl-2"]
        assert swarm.view.participants["sl-1"].fingerprint == key


async def test_an_sn_with_a_renewed_certificate_starts_again_and_knows_its_swarm(pki: Any, tmp_path: Path) -> None:
    files = pki.issue("sn", "sn-1")
    for _ in range(2):
        async with (
            running_sn(loaded(files), tmp_path / "sn") as sn,
            SNClient(f"localhost:{sn.port}", pki.identity("admin", "op")) as client,
        ):
            nodes = (await client.network.ListNodes(pb.ListNodesRequest())).nodes
            assert [(node.name, node.present) for node in nodes] == [("sn-1", True)]
        renew(pki, files)


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
