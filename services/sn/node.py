"""An SN on an open chain: its contracts, its trainings, its API."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Self

from services.chain.backend import ChainBackend
from services.chain.events import TrainingEvent
from services.chain.runner import TaskRunnerGateway
from services.chain.tasks import TaskRegistryGateway
from services.errors import NameTaken
from services.identity.certificates import read_chain
from services.identity.identity import Identity
from services.identity.peers import PeerIdentity
from services.identity.renewal import Credentials, Renewal
from services.rpc.server import Admits, RpcServer
from services.rpc.swarm_pb2 import RoundState
from services.runtime import logs
from services.runtime.addresses import join_address
from services.runtime.background import Background
from services.runtime.metrics import Meter
from services.sn.api import AdminApi, ApiContext, NetworkApi, TrainingApi
from services.sn.chain_relay import ChainRelay
from services.sn.cluster_manager import ClusterManager, in_sync
from services.sn.directory import establish
from services.sn.event_log import narrate
from services.sn.fetching import IMPORT_FILE
from services.sn.founding import FoundWith, founding
from services.sn.handing_over import hand_over
from services.sn.live import TrainingContext
from services.sn.membership import Caller, Membership
from services.sn.metrics import SNMetrics
from services.sn.names import Holder, Names
from services.sn.newcomer import take_chain
from services.sn.peering import ChainName, Peering
from services.sn.peering_api import PeeringApi
from services.sn.roles import HANDING_OVER, LIMITS, ROLES
from services.sn.snapshots import Snapshots
from services.sn.state import SNState
from services.sn.succession import looks_after
from services.sn.taskrunners import LiveRunner, TaskRunners
from services.sn.tasks_api import RunnersApi, TasksApi
from services.sn.training import TrainingView
from services.sn.trainings import Trainings

ROLE = "sn"
PORT_OPTION = "--sn-api-port"
STOP_GRACE_S = 2.0

_log = logs.get(ROLE)


@dataclass(frozen=True)
class Announcement:
    """Where the API listens, and at which host others reach it. Port 0: any free one.

    ``through``: address of another SN; if empty, only SNs known from before are looked for. ``api_port``: the port at
    which others reach the API; 0 is the one that it listens on. ``p2p_port``: where the chain listens. ``p2p``: host
    and port at which other SNs reach the chain; None means the same host, port 0 the one that it listens on.
    """

    bind_host: str
    port: int
    host: str
    through: str = ""
    api_port: int = 0
    p2p_port: int = 0
    p2p: tuple[str, int] | None = None


@dataclass(frozen=True)
class RunningSN:
    """``port`` is the one on which the API listens."""

    port: int
    address: str  # where others reach it
    trainings: Trainings
    background: Background
    changed: asyncio.Event  # set when a training has changed

    async def round_over(self) -> None:
        """Returns when no training is in the middle of a round: no check-ins, and no merge."""
        while any(view.check_ins and view.state != RoundState.COMPLETE for view in self.trainings.views):
            self.changed.clear()
            await self.changed.wait()


@contextlib.asynccontextmanager
async def serving(
    identity: Identity,
    chain: ChainBackend,
    data_dir: Path,
    where: Announcement,
    lost_after_s: float,
    *,
    metrics: SNMetrics | None = None,
    found_with: FoundWith = "own",
) -> AsyncIterator[RunningSN]:
    """Finds or deploys the contracts, replays the trainings, opens the API; stops in the reverse order.

    ``metrics``: None if nothing is measured. ``found_with``: which organizations a new swarm begins with. Raises
    PortInUse, ChainError, NotARegisteredSN, NameTaken, OrganizationNotHeld.
    """
    name = identity.name
    changed = asyncio.Event()
    membership = Membership()
    measured = metrics or SNMetrics(Meter(on=False))
    chain.on_transaction = measured.transaction

    def observe(view: TrainingView, event: TrainingEvent) -> None:
        narrate(view, event)
        measured.event(view, event)
        changed.set()

    async with contextlib.AsyncExitStack() as stack:
        background = Background("sn")
        stack.push_async_callback(background.close)
        peering = await stack.enter_async_context(
            _in_touch(identity, chain, data_dir, where, background, membership=membership)
        )
        network = await establish(chain, data_dir, name, founding(identity, found_with))
        around = TrainingContext(
            background,
            monotonic,
            lost_after_s,
            is_ours=lambda sl: looks_after(name, membership.parent("sl", sl), trainings.present_sns),
            member_of=lambda sl: membership.members.get(("sl", sl)),
            snapshots=Snapshots(data_dir, chain),
            observe=observe,
        )
        trainings = Trainings(network, membership, around)
        runners = TaskRunners(
            lambda entry: LiveRunner(
                entry.name,
                TaskRunnerGateway.at(chain, entry.location),
                background,
                grace_s=lost_after_s,
                membership=membership,
                is_ours=lambda swop: looks_after(name, membership.parent("swop", swop), trainings.present_sns),
            ),
            background,
        )
        trainings.members_changed = runners.follow_members
        trainings.entered = lambda entry: runners.enter(entry, lambda at: TaskRegistryGateway.at(chain, at))
        names = Names(_nowhere if peering is None else peering.holder_elsewhere)
        trainings.expelled = _expelling(identity, names)
        measured.read_trainings(lambda: trainings.views, membership)
        stack.push_async_callback(trainings.close)
        await trainings.open()
        if peering is not None:
            peering.met = lambda: background.run(names.compare(), "comparing who holds names")
        context = ApiContext(name, identity.organization, lambda: identity.credentials.trust, trainings, runners, names)
        server = _server(identity, context, peering)
        port = await server.start(where.bind_host, where.port, PORT_OPTION)
        stack.push_async_callback(server.stop, STOP_GRACE_S)
        stack.callback(trainings.end_streams)
        stack.callback(runners.end_streams)
        stack.callback(names.end_streams)
        own_entry = stack.enter_context(_OwnEntry.kept(identity, trainings))
        announced = where.api_port or port

        async def register() -> None:
            await own_entry.take_key(identity.credentials)
            await trainings.register(_caller(identity), where.host, announced, name)

        if peering is None or chain.federation is None:
            await register()
        else:
            stack.callback(peering.end_streams)
            await peering.opened(announced)
            cluster = ClusterManager(
                identity, trainings, chain.federation, peering, background,
                data_dir=data_dir, grace_s=lost_after_s, register=register,
            )  # fmt: skip
            stack.callback(cluster.stop)
            await cluster.open()
        yield RunningSN(port, join_address(where.host, announced), trainings, background, changed)
        _log.info("stopping")


class _OwnEntry:
    """This SN's entry: its key, which it writes into the directory, and when its certificate ends."""

    def __init__(self, identity: Identity, trainings: Trainings) -> None:
        self._identity = identity
        self._trainings = trainings
        self.renewed()

    @classmethod
    @contextlib.contextmanager
    def kept(cls, identity: Identity, trainings: Trainings) -> Iterator[Self]:
        """Inside this context, the entry follows the identity."""
        entry = cls(identity, trainings)
        if identity.renewal is not None:
            identity.renewal.directories.add(entry)
            identity.renewal.followers.add(entry)
        try:
            yield entry
        finally:
            if identity.renewal is not None:
                identity.renewal.directories.discard(entry)
                identity.renewal.followers.discard(entry)

    def renewed(self) -> None:
        if not self._identity.known_by_id:
            ends = read_chain(self._identity.credentials.cert)[0].not_valid_after_utc
            self._trainings.membership.certificate_ends[ROLE, self._identity.name] = ends.timestamp()

    async def take_key(self, newest: Credentials) -> None:
        """Raises NameTaken if the known key does not lead to the newest one, and what ``hand_over`` raises."""
        identity = self._identity.renewed_by(Renewal(newest), known_by_id=False)
        known = await hand_over(_caller(identity), identity.spiffe_id, newest.handovers, self._trainings)
        if known.hex() not in ("", identity.known_as):
            raise NameTaken(name=identity.name, enrolledFingerprint=known.hex())


def _caller(identity: Identity) -> Caller:
    return Caller(ROLE, identity.name, bytes.fromhex(identity.known_as), identity.organization)


def _admission(trainings: Trainings) -> Admits:
    """Admits callers of organizations that the chain holds, unless expelled. While an SN that must go hands over
    sealing, it may still make the calls that this needs.
    """
    federation = trainings.chain.federation

    def admits(method: str, peer: PeerIdentity) -> None:
        known = trainings.membership.members.get((peer.role, peer.name))
        if (
            method in HANDING_OVER
            and federation is not None
            and known is not None
            and known.organization == peer.organization
            and federation.needs_others_than(trainings.accounts.names)
        ):
            return
        trainings.organizations.check(peer)
        trainings.membership.expulsions.check(peer.role, peer.name)

    return admits


def _expelling(identity: Identity, names: Names) -> Callable[[str, str], None]:
    """Refuses expelled nodes from now on, and tells all that hold a name here. An SN may have to hand over sealing
    first: the ClusterManager decides when to refuse it.
    """

    def expelled(role: str, name: str) -> None:
        if role != ROLE:
            identity.credentials.trust.expulsions.put((role, name))
        names.tell()

    return expelled


async def _nowhere(_claim: Holder) -> str:
    """For a chain with one SN: nobody can hold a name elsewhere."""
    return ""


@contextlib.asynccontextmanager
async def _in_touch(
    identity: Identity,
    chain: ChainBackend,
    data_dir: Path,
    where: Announcement,
    background: Background,
    *,
    membership: Membership,
) -> AsyncIterator[Peering | None]:
    """Meets the SNs known from before, and waits until this SN may write; None on a chain for one SN."""
    federation = chain.federation
    if federation is None:
        yield None
        return
    shared = ChainName(chain.chain_id, bytes.fromhex((await chain.block_hash(0)).removeprefix("0x")))
    relay = ChainRelay(identity, federation.geth_peers.listens_on, federation.is_geth, membership.recognizes)
    try:
        port = await relay.open(where.bind_host, where.p2p_port, where.p2p or (where.host, 0))
        _log.info("listening for other SNs' geth", port=port)
        peering = Peering(identity, federation, shared, where.host, background, relay=relay)
        state = SNState.load(data_dir)
        if state is not None and where.through:
            await take_chain(identity, chain, data_dir, state, where.through)
        peering.start(state.peers if state else (), data_dir / IMPORT_FILE, where.through)
        await in_sync(federation, max(state.joined_at if state else 0, federation.remembered))
        yield peering
    finally:
        await relay.close()


def _server(identity: Identity, context: ApiContext, peering: Peering | None) -> RpcServer:
    services = {
        "Network": NetworkApi(context),
        "Training": TrainingApi(context),
        "Tasks": TasksApi(context),
        "Runners": RunnersApi(context),
        "Admin": AdminApi(context),
        "Peering": PeeringApi(context, peering),
    }
    return RpcServer(identity, ROLES, services, LIMITS, admits=_admission(context.trainings))
