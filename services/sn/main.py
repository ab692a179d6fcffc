"""Starts an SN, step by step, and stops it in the reverse order."""

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

from services.chain.backend import ChainBackend
from services.chain.factory import Choice, open_chain
from services.errors import AnotherSwarm
from services.identity.hosts import warn_unless_for
from services.identity.identity import Identity
from services.identity.source import own_identity
from services.licensing.lease import Lease
from services.licensing.metrics import measured
from services.rpc.server import check_free
from services.runtime import logs, traces
from services.runtime.ready import ReadySocket
from services.runtime.stopping import until
from services.sn.joining import join
from services.sn.metrics import SNMetrics
from services.sn.neighbors import Neighbors
from services.sn.node import PORT_OPTION, ROLE, Announcement, serving
from services.sn.settings import SNSettings
from services.sn.state import SNState, chain_choice, claimed

FEATURE = "SN"

_log = logs.get(ROLE)

Started = TypeVar("Started")


async def main(settings: SNSettings, stop: asyncio.Event, ready: ReadySocket) -> None:
    """Runs until ``stop``. Raises whatever makes a start fail or ends a running node."""
    async with contextlib.AsyncExitStack() as stack:
        identity = await stack.enter_async_context(own_identity(settings, ROLE))
        logs.configure(settings.log_format, identity.name, settings.log_level)
        traces.configure("swarm-sn", identity.name)
        _log.info("identity", name=identity.name, role=identity.role, fingerprint=identity.fingerprint[:16])
        warn_unless_for(identity, settings.api[0], settings.p2p[0])
        data_dir = stack.enter_context(claimed(settings.data_dir))
        check_free(settings.host, settings.listens_on, PORT_OPTION)
        choice = chain_choice(settings.chain, data_dir)

        lease = await stack.enter_async_context(
            await Lease.acquire(settings.license_servers, identity, FEATURE, data_dir=data_dir)
        )
        meter, scraped = await stack.enter_async_context(
            measured(identity, lease, settings.metrics_host, settings.metrics_port)
        )
        metrics = SNMetrics(meter)

        chain = await _chain(settings, identity, choice, data_dir, stop)
        if chain is None:
            return
        stack.push_async_callback(chain.close)
        _log.info("chain", kind=chain.kind, chain_id=chain.chain_id, account=chain.account)

        host, api_port = settings.api
        where = Announcement(
            settings.host, settings.listens_on, host, settings.through, api_port, settings.p2p_listens_on, settings.p2p
        )
        served_by = serving(
            identity, chain, data_dir, where, settings.lost_after_s, metrics=metrics, found_with=settings.found_with
        )
        sn = await _unless(stop, stack.enter_async_context(served_by))
        if sn is None:
            return
        _log.info(f"Starting SWARM-API-SERVER on port: {sn.port}")
        neighbors = Neighbors(sn.trainings.network.address, sn.address)
        sn.background.keep(
            lambda: neighbors.watch(settings.license_servers, identity, FEATURE), "asking for other swarms"
        )
        ready.report(port=sn.port, chain=chain.kind, **scraped)
        await until(stop, sn.background.broken(), lease.raise_when_lost(sn.round_over))


async def _chain(
    settings: SNSettings, identity: Identity, choice: Choice, data_dir: Path, stop: asyncio.Event
) -> ChainBackend | None:
    """The chain in the data directory, else that of the swarm to join, else a new one. None: see _unless."""
    state = SNState.load(data_dir)
    if state is not None or settings.sentinel:
        has_others = bool(settings.through) or (state is not None and bool(state.peers))
        return await open_chain(choice, data_dir, has_others=has_others)
    joined = await _unless(stop, join(identity, settings.through, data_dir, settings.join_patience_s))
    if joined is None:
        return None
    chain = await open_chain("geth", data_dir, genesis=joined.genesis, has_others=True)
    if chain.federation is not None and json.loads(chain.federation.genesis) != joined.genesis:
        await chain.close()  # from a start that was cut short: another swarm, or before a new founding
        same = "that of the same id with another first block" if chain.chain_id == joined.chain_id else chain.chain_id
        raise AnotherSwarm(name=joined.through, theirs=joined.chain_id, ours=same)
    state = SNState("geth", joined.network, peers=list(joined.peers), joined_at=joined.block)
    state.save(data_dir)
    return chain


async def _unless(stop: asyncio.Event, start: Coroutine[None, None, Started]) -> Started | None:
    """The result of ``start``; None if the node must stop before: a start may wait for others for a long time."""
    starting, stopping = asyncio.create_task(start), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return starting.result() if starting.done() else None
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
