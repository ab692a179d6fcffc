"""A site whose tunnel is down for longer than its SL waits for an SN, and one whose tunnel breaks ten times."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mapped_ports import MappedPort
from sl_swarm import ML, WITHIN_S, Arrays, Swarm, swarm_of
from tunnel_site import TunnelSite, tunnel_site

from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, node_environment

BREAKS = 10
BREAK_AFTER_BYTES = 1_500_000
MBIT = 60  # so slow that a break comes in the middle of a transfer

PATIENCE_S = 1.0
GOES_ON_S = 4 * PATIENCE_S
LOOK_EVERY_S = 0.05


@contextlib.asynccontextmanager
async def reached_from(site: TunnelSite, target: int) -> AsyncIterator[int]:
    """A port of this machine for the site, which leads to a loopback port."""
    mapping = MappedPort()
    mapping.target = target
    async with await asyncio.start_server(mapping.passes_on, site.here, 0) as server:
        yield server.sockets[0].getsockname()[1]
        await mapping.end()


@contextlib.asynccontextmanager
async def sl_behind(site: TunnelSite, swarm: Swarm) -> AsyncIterator[tuple[Child, dict[str, Any]]]:
    files = swarm.pki.issue("sl", "sl-1", ["localhost", site.there])
    async with reached_from(site, swarm.sn_port) as sn, reached_from(site, swarm.licenses_port) as licenses:
        argv = site.on(
            sys.executable, "-m", "services.cli", "sl", "--host-ip", site.there, "--sl-fs-port", "0",
            "--sn-ip", "localhost", "--sn-api-port", str(sn), "--apls-ip", "localhost", "--apls-port", str(licenses),
            "--data-dir", str(swarm.directory / "sl-1"),
            "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert),
        )  # fmt: skip
        environment = node_environment(SL_SN_PATIENCE_SECONDS=str(PATIENCE_S))
        child = Child.start(Launch("sl-1", argv, swarm.directory / "sl-1.log", environment, cwd=CODE_ROOT))
        try:
            yield child, await child.ready()
        finally:
            assert not await child.stop(), f"it had to be killed:\n{child.tail()}"


async def said(child: Child, words: str) -> None:
    """Returns once the words are in its log. It must poll: there is no stream to wait on."""
    async with asyncio.timeout(WITHIN_S):
        while words not in child.log.read_text():
            await asyncio.wait({child.exited}, timeout=LOOK_EVERY_S)


@pytest.mark.timeout(180)
@pytest.mark.needs("netns")
async def test_a_tunnel_that_is_away_while_the_program_trains_ends_nobody_and_a_new_address_is_found(
    pki: Any, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        swarm = await stack.enter_async_context(swarm_of(pki, tmp_path, lost_after_s=1.0))
        site = stack.enter_context(tunnel_site(tmp_path))
        child, facts = await stack.enter_async_context(sl_behind(site, swarm))
        trains, goes_on, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()
        stack.callback(goes_on.set)

        def epoch(number: int) -> None:
            if number == 0:
                loop.call_soon_threadsafe(trains.set)
                goes_on.wait(WITHIN_S)

        program = ML(
            Path(facts["request_channel"]), Path(facts["response_channel"]), {"w": np.zeros(3, np.float32)},
            lambda arrays, _: {"w": arrays["w"] + np.float32(1)}, min_peers=1, between=epoch,
        )  # fmt: skip
        trained = asyncio.create_task(program.run())
        async with asyncio.timeout(WITHIN_S):
            await trains.wait()

        site.cut()
        await swarm.until(lambda view: not view.participants["sl-1"].active)
        await said(child, "no SN can be reached")
        with pytest.raises(TimeoutError):  # it is still running, although its patience is over
            await asyncio.wait_for(asyncio.shield(child.wait()), GOES_ON_S)
        site.move()
        site.heal()
        await swarm.until(lambda view: view.participants["sl-1"].active)
        assert swarm.trainings.membership.members["sl", "sl-1"].host == site.later
        goes_on.set()
        await trained
        assert program.final["w"].tolist() == [3, 3, 3]
        assert await child.wait() == 0, child.tail()
        log = child.log.read_text()
        assert "no SN can be reached, trying again; nothing is needed from it yet" in log
        assert f"this host has lost its address; announcing another one  lost={site.there} now={site.later}" in log


@pytest.mark.timeout(180)
@pytest.mark.needs("netns")
async def test_models_come_over_a_link_that_breaks_ten_times(pki: Any, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        swarm = await stack.enter_async_context(swarm_of(pki, tmp_path))
        site = stack.enter_context(tunnel_site(tmp_path))
        child, facts = await stack.enter_async_context(sl_behind(site, swarm))
        await swarm.sl("sl-2", host=site.here)
        here = swarm.nodes["sl-2"].facts
        site.slow(MBIT)
        programs = [
            ML(Path(node["request_channel"]), Path(node["response_channel"]), model, same, rounds=0, min_peers=2)
            for node, model in ((facts, random_model(1)), (here, random_model(2)))
        ]
        trained = asyncio.gather(*(program.run() for program in programs))
        for _ in range(BREAKS):
            await until_more_came(site, trained)
            site.break_connections()
        assert not trained.done()
        digests = await trained
        assert len(set(digests)) == 1
        events = [type(event).__name__ for event in await swarm.events()]
        assert "LeaderVotedOut" not in events
        assert "LeftOut" not in events
        assert await child.wait() == 0, child.tail()


def random_model(seed: int) -> Arrays:
    return {"w": np.random.default_rng(seed).standard_normal(4_000_000).astype(np.float32)}


def same(arrays: Arrays, _number: int) -> Arrays:
    return arrays


async def until_more_came(site: TunnelSite, trained: "asyncio.Future[list[str]]") -> None:
    """Returns once the site has sent ``BREAK_AFTER_BYTES`` more, or the programs have ended."""
    wanted = site.came_bytes + BREAK_AFTER_BYTES
    async with asyncio.timeout(WITHIN_S):
        while site.came_bytes < wanted and not trained.done():
            await asyncio.wait({trained}, timeout=LOOK_EVERY_S)
