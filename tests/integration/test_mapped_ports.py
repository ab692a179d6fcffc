"""Nodes behind port mappings: others reach them although they bind other ports than they announce."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mapped_ports import mapped_port
from sl_swarm import WITHIN_S, swarm_of
from sn_network import SNNetwork

from services.sl.round import settings as round_settings
from tests.free_ports import free_port


async def test_sls_behind_port_mappings_train_and_announce_the_outer_port(pki: Any, tmp_path: Path) -> None:
    names = ["sl-1", "sl-2"]
    async with contextlib.AsyncExitStack() as stack:
        outer = {name: await stack.enter_async_context(mapped_port()) for name in names}
        swarm = await stack.enter_async_context(swarm_of(pki, tmp_path))
        for name in names:
            node = await swarm.sl(name, sl_fs_port=outer[name].port, bind_port=0)
            outer[name].target = node.facts["port"]
            assert node.facts["port"] != outer[name].port
        model = {"w": np.zeros(4, np.float32)}
        programs = [swarm.ml(name, model, lambda arrays, _: arrays, min_peers=2) for name in names]
        digests = await asyncio.gather(*(program.run() for program in programs))
        assert len(set(digests)) == 1
        assert {who.port for who in swarm.view.participants.values()} == {mapping.port for mapping in outer.values()}
        assert any(mapping.connections for mapping in outer.values())


async def test_a_shared_merge_stalls_for_no_connection_that_a_firewall_has_forgotten(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_settings, "STALL_S", 10 * WITHIN_S)  # so that no stall ends before the test
    async with contextlib.AsyncExitStack() as stack:
        firewall = await stack.enter_async_context(mapped_port())
        swarm = await stack.enter_async_context(swarm_of(pki, tmp_path, "sl-1", "sl-3", leader_timeout_s=30 * WITHIN_S))
        node = await swarm.sl("sl-2", sl_fs_port=firewall.port, bind_port=0, leader_timeout_s=30 * WITHIN_S)
        firewall.target = node.facts["port"]

        def forget(_number: int) -> None:
            made.append(firewall.connections)
            firewall.forget()

        made: list[int] = []
        model = {"w": np.random.default_rng(1).standard_normal(1_500_000).astype(np.float32)}
        programs = [
            swarm.ml(name, model, lambda arrays, _: {"w": arrays["w"] + np.float32(1)}, between=between)
            for name, between in (("sl-1", forget), ("sl-2", lambda _: None), ("sl-3", lambda _: None))
        ]
        digests = await asyncio.gather(*(program.run() for program in programs))
        assert len(set(digests)) == 1
        assert 0 < made[0] < made[1] < firewall.connections
        events = [type(event).__name__ for event in await swarm.events()]
        assert "LeaderVotedOut" not in events
        assert "LeftOut" not in events


@pytest.mark.needs("geth")
async def test_sns_behind_port_mappings_share_one_chain(pki: Any, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        network = SNNetwork(pki, tmp_path)
        stack.push_async_callback(network.stop)
        await network.license_server()
        chains = []
        for name in ("sn-1", "sn-2"):
            api, chain = [await stack.enter_async_context(mapped_port()) for _ in range(2)]
            chains.append(chain)
            chain.target = free_port()
            arguments = [
                "--sn-api-port", str(api.port), "--bind-port", "0",
                "--sn-p2p-port", str(chain.port), "--p2p-bind-port", str(chain.target),
            ]  # fmt: skip
            through = ["--sentinel"] if name == "sn-1" else ["--sentinel-ip", f"127.0.0.1:{network.ports['sn-1']}"]
            child = network.refused(name, *through, *arguments)
            network.running[name] = child
            api.target = (await child.ready())["port"]
            network.ports[name] = api.port
        await network.presence("sn-1", sn_2=True)
        location = await network.create("sn-2", "through.mapped.ports")
        await network.shows("sn-1", "through.mapped.ports", location)
        assert {port for port, _ in (await network.sns("sn-1")).values()} == set(network.ports.values())

        async def met() -> bool:
            return any(chain.connections for chain in chains)

        # If blocks do not come from geth to geth in time, they are fetched from the SN.
        await network.until(met, "no geth went through a port mapping")
