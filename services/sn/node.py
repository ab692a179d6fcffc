"""An SN around a chain that is open: its contracts, its trainings, its API."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from services.chain.backend import ChainBackend
from services.chain.events import TrainingEvent
from services.identity.identity import Identity
from services.rpc.server import RpcServer
from services.rpc.swarm_pb2_grpc import (
    add_AdminServicer_to_server,
    add_NetworkServicer_to_server,
    add_TrainingServicer_to_server,
)
from services.runtime import logs
from services.runtime.metrics import Meter
from services.sn.api import AdminApi, Desk, NetworkApi, TrainingApi
from services.sn.background import Background
from services.sn.directory import establish
from services.sn.live import Surroundings
from services.sn.membership import Caller, Membership
from services.sn.metrics import SNMetrics
from services.sn.narration import narrate
from services.sn.roles import ROLES, SERVICES
from services.sn.training import TrainingView
from services.sn.trainings import Trainings

ROLE = "sn"
PORT_OPTION = "--sn-api-port"
STOP_GRACE_S = 2.0

_log = logs.get(ROLE)


@dataclass(frozen=True)
class Announcement:
    """Where the API listens, and by which host peers reach it. Port 0: any free one."""

    bind_host: str
    port: int
    host: str


@dataclass(frozen=True)
class RunningSN:
    """``port`` is the one the API got."""

    port: int
    trainings: Trainings
    background: Background


@contextlib.asynccontextmanager
async def serving(
    identity: Identity,
    chain: ChainBackend,
    data_dir: Path,
    where: Announcement,
    lost_after_s: float,
    *,
    metrics: SNMetrics | None = None,
) -> AsyncIterator[RunningSN]:
    """Finds or makes the contracts, replays the trainings, opens the API; stops in the reverse order.

    ``metrics``: None where nothing is measured. Raises PortInUse, ChainError, NotARegisteredSN, NameTaken.
    """
    name = identity.name
    membership = Membership()
    measured = metrics or SNMetrics(Meter(on=False))
    chain.on_transaction = measured.transaction

    def observe(view: TrainingView, event: TrainingEvent) -> None:
        narrate(view, event)
        measured.event(view, event)

    async with contextlib.AsyncExitStack() as stack:
        network = await establish(chain, data_dir)
        background = Background()
        stack.push_async_callback(background.close)
        around = Surroundings(
            background,
            monotonic,
            lost_after_s,
            is_ours=lambda sl: membership.parent("sl", sl) == name,
            address_of=lambda sl: membership.address("sl", sl),
            observe=observe,
        )
        trainings = Trainings(network, membership, around)
        measured.read_trainings(lambda: trainings.views, membership)
        stack.push_async_callback(trainings.close)
        await trainings.open()
        server = _server(identity, Desk(name, trainings))
        port = await server.start(where.bind_host, where.port, PORT_OPTION)
        stack.push_async_callback(server.stop, STOP_GRACE_S)
        stack.callback(trainings.end_streams)
        me = Caller(ROLE, name, bytes.fromhex(identity.fingerprint))
        await trainings.register(me, where.host, port, name)
        yield RunningSN(port, trainings, background)
        _log.info("stopping")


def _server(identity: Identity, desk: Desk) -> RpcServer:
    return RpcServer(
        identity,
        ROLES,
        [
            lambda server: add_NetworkServicer_to_server(NetworkApi(desk), server),  # type: ignore[no-untyped-call]
            lambda server: add_TrainingServicer_to_server(TrainingApi(desk), server),  # type: ignore[no-untyped-call]
            lambda server: add_AdminServicer_to_server(AdminApi(desk), server),  # type: ignore[no-untyped-call]
        ],
        SERVICES,
    )
