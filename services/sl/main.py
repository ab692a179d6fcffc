"""Starts an SL, step by step, runs its training, and stops in the reverse order."""

import asyncio
from contextlib import AsyncExitStack

from services.errors import SwarmError
from services.identity.hosts import warn_unless_for
from services.identity.source import own_identity
from services.licensing.lease import Lease
from services.licensing.metrics import measured
from services.rpc import swarm_pb2 as pb
from services.runtime import logs, traces
from services.runtime.addresses import join_address
from services.runtime.ready import ReadySocket
from services.sl.link import SNLink
from services.sl.memory import Memory
from services.sl.metrics import SLMetrics
from services.sl.ml import MLSide
from services.sl.observer import Observer
from services.sl.own_address import OwnAddress
from services.sl.round.runner import Runner
from services.sl.settings import SLSettings
from services.sl.transfer.file_server import FileServer, bind
from services.sl.transfer.peers import Peers
from services.sl.transfer.store import Store

ROLE = "sl"
FEATURE = "SL"
DEREGISTER_DEADLINE_S = 5.0

_log = logs.get(ROLE)


async def main(settings: SLSettings, stop: asyncio.Event, ready: ReadySocket) -> None:
    """Runs until the training of its ML program is over, or ``stop``. Raises the error that ends it earlier."""
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(own_identity(settings, ROLE, settings.slot))
        logs.configure(settings.log_format, identity.name, settings.log_level)
        traces.configure("swarm-sl", identity.name)
        _log.info("identity", name=identity.name, role=identity.role, fingerprint=identity.fingerprint[:16])
        store, memory = Store(settings.data_dir / "fs"), Memory(settings.data_dir)
        bound = stack.enter_context(bind(settings.host, settings.listens_on))
        port = int(bound.getsockname()[1])
        address = OwnAddress(*settings.announced(port))
        warn_unless_for(identity, address.host)
        # Before all else: a second process of this name would take the first one's seat, and its place in a training.
        link = await stack.enter_async_context(SNLink(identity, settings.sn_address, address, memory))
        lease = await stack.enter_async_context(
            await Lease.acquire(settings.license_servers, identity, FEATURE, data_dir=settings.data_dir)
        )
        meter, scraped = await stack.enter_async_context(
            measured(identity, lease, settings.metrics_host, settings.metrics_port)
        )
        observer = Observer(identity.name, SLMetrics(meter))

        await link.enter()
        stack.push_async_callback(_deregister, link)

        stall_s = settings.round_settings.stall_s
        peers = await stack.enter_async_context(Peers(identity, store, observer.received, stall_s))
        request, response = settings.channels
        ml = MLSide(identity.name, request, response, store, observer.stored)
        stack.push_async_callback(ml.close)
        runner = Runner(identity, address, settings.round_settings, link, store, memory, ml, peers, observer)
        observer.metrics.read_view(identity.name, lambda: runner.view)
        server = FileServer(
            identity,
            store,
            runner.readers,
            observer.sent,
            runner.take_copy,
            follow=runner.follow,
            progress=runner.progress,
            keep_congestion_control=settings.keep_congestion_control,
        )
        await server.start(bound)
        stack.push_async_callback(server.stop)
        _log.info("file server", port=port, announced=join_address(address.host, address.port))

        ml.start(runner.post)
        _log.info("waiting for the ML program", request_channel=str(request), response_channel=str(response))
        ready.report(port=port, request_channel=str(request), response_channel=str(response), **scraped)
        await runner.run(stop, [lease.raise_when_lost(runner.round_over), link.name.lost()])
    _log.info("stopped")


async def _deregister(link: SNLink) -> None:
    """If the SN does not answer, it finds out by itself."""
    if link.name.is_lost:
        return
    try:
        await link.client.network.Deregister(pb.DeregisterRequest(reason="stopped"), timeout=DEREGISTER_DEADLINE_S)
    except SwarmError as error:
        _log.debug("not deregistered", why=str(error))
