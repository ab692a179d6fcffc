"""What nodes say and serve that they should not: numbers that are none, other shapes, other bytes, old requests."""

import hashlib
import time
from collections.abc import Awaitable, Callable

from services.errors import SwarmError
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from tests.chaos import disk
from tests.chaos.ground import CHECKED_IN, ONE_ROUND_S, PACKED, SHARED, SHARING, WRITTEN, Fault, Ground, Inject, Moment
from tests.chaos.traffic import Pair
from tests.chaos.trainer import GARBAGE, OTHER_MODELS
from tests.pacing import pause

BOGUS = hashlib.sha256(b"bogus").digest()


async def not_a_number(ground: Ground) -> None:
    """A node contributes what is no number: it is left out of the round and goes on from its result."""
    victim, poison = ground.somebody(), ground.dice.choice(["nan", "inf"])
    victim.node.poison.write_text(poison)
    await ground.traffic.until(lambda seen: victim.name in seen.left_out, f"{victim.name} left out")
    ground.hits(f"{poison} in the parameters of {victim.name}")
    await ground.traffic.rounds(1)
    await ground.traffic.contributes(victim.name)


async def huge_numbers(ground: Ground) -> None:
    """Finite, so they are merged: what a mean makes of 1e30 is what the checker makes of it."""
    victim = ground.somebody()
    victim.node.poison.write_text("huge")
    ground.hits(f"1e30 in the parameters of {victim.name}")
    await ground.traffic.rounds(2)


async def another_shape(ground: Ground) -> None:
    """A newcomer with another model is told which tensor differs, and ends; the others go on."""
    number = len(ground.traffic.pairs)
    how, tensor = ground.dice.choice(list(OTHER_MODELS.items()))
    newcomer = await ground.traffic.add(f"{ground.traffic.contract}-{number + 1}", number, model=how)
    ground.hits(f"{newcomer.name} with {how}")
    await ground.ends_badly(newcomer, tensor)


async def damaged_stream(ground: Ground) -> None:
    """A newcomer whose program sends what is no safetensors stream."""
    number = len(ground.traffic.pairs)
    how = ground.dice.choice(sorted(GARBAGE))
    newcomer = await ground.traffic.add(f"{ground.traffic.contract}-{number + 1}", number, garbage=how)
    ground.hits(f"{newcomer.name} with {how}")
    await ground.ends_badly(newcomer, "damaged")


def served_wrong(moment: Moment) -> Inject:
    """From this moment on a file server serves other bytes than its node has checked in with, or merged: the round is
    done without them, and it takes part again once it is honest.
    """

    async def inject(ground: Ground) -> None:
        liar = await ground.caught(moment)
        lie = ground.traffic.lie(liar.name)
        liar.sl.thaw()
        await ground.traffic.told(lie)
        ground.hits(liar.name)
        await ground.traffic.rounds(1)
        lie.unlink()
        await ground.traffic.contributes(liar.name)

    return inject


async def result_served_wrong(ground: Ground) -> None:
    """A leader that publishes the right digest and serves other bytes: everybody gets the right ones elsewhere."""
    liar = await ground.caught(WRITTEN)
    lie = ground.traffic.lie(liar.name, after=1)
    liar.sl.thaw()
    await ground.traffic.told(lie)
    ground.hits(liar.name)
    lie.unlink()
    await ground.traffic.rounds(1)


async def replayed_requests(ground: Ground) -> None:
    """A client with a node's own certificate says again what was said, and what is not its to say."""
    traffic = ground.traffic
    victim = await ground.caught(CHECKED_IN)
    status = await _status(ground, victim)
    ground.hits(f"in the name of {victim.name}")
    await _speak(ground, victim, status)
    victim.sl.thaw()
    await traffic.rounds(1)
    await _speak(ground, victim, status)


async def _status(ground: Ground, victim: Pair) -> pb.TrainingStatus:
    async with ground.world.client(victim.node.sn) as client:
        return await client.training.GetStatus(pb.GetStatusRequest(contract=ground.traffic.contract))


async def _speak(ground: Ground, victim: Pair, status: pb.TrainingStatus) -> None:
    """Each of these must be refused, whatever has happened since ``status``."""
    files = ground.world.files("sl", victim.name)
    identity = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)
    ground.went.rogue_digests.append(BOGUS.hex())
    async with SNClient(ground.world.address(victim.node.sn), identity) as client:
        for what, say in _sayings(client, ground.traffic.contract, status).items():
            try:
                await say()
            except SwarmError:
                continue
            ground.traffic.note(f"the SN accepted {what} from {victim.name}'s double")


def _sayings(client: SNClient, contract: str, status: pb.TrainingStatus) -> dict[str, Callable[[], Awaitable[object]]]:
    training, round_ = client.training, status.round
    bogus = {"contract": contract, "digest": BOGUS, "size": 100}
    config = pb.Config(
        min_peers=1,
        sync_frequency=1,
        merge_method="mean",
        quorum_wait_ms=1,
        transfer_compression="none",
        first_merge="average",
    )

    def check_in(number: int) -> Awaitable[object]:
        place = {"layout": status.layout, "weight": 100, "host": "127.0.0.1", "port": 1}
        return training.CheckIn(pb.CheckInRequest(round=number, base=round_ - 1, **bogus, **place))

    def publish(number: int, term: int) -> Awaitable[object]:
        return training.Publish(pb.PublishRequest(round=number, term=term, **bogus))

    return {
        "a second check-in": lambda: check_in(round_),
        "a check-in to an old round": lambda: check_in(1),
        "a check-in to a round to come": lambda: check_in(round_ + 1000),
        "a result of an old round": lambda: publish(1, 1),
        "a result of a term to come": lambda: publish(round_, 1000),
        "an old round opened again": lambda: training.Reopen(pb.ReopenRequest(contract=contract, round=1, term=1)),
        "a vote in an old round": lambda: training.VoteOut(pb.VoteOutRequest(contract=contract, round=1, term=1)),
        "a report on a round to come": lambda: training.Report(
            pb.ReportRequest(contract=contract, round=round_ + 1000, loss=0.0)
        ),
        "another configuration": lambda: training.Enrol(pb.EnrolRequest(contract=contract, config=config)),
        "a contract of its own": lambda: client.admin.CreateContract(pb.CreateContractRequest(name="mine")),
        "the end of the training": lambda: client.admin.ResetContract(pb.ResetContractRequest(name=contract)),
    }


async def disk_full(ground: Ground) -> None:
    """A node that cannot store a stream any more says so and ends; the others go on. With room again it comes back."""
    traffic = ground.traffic
    victim = next(iter(traffic.pairs.values()))
    ground.hits(victim.name)
    deadline = time.monotonic() + ONE_ROUND_S
    while victim.sl.alive and time.monotonic() < deadline:  # it makes room as it forgets old streams
        disk.fill(victim.node.data)
        await pause(0.02)
    await ground.ends_badly(victim, "is full")
    await traffic.rounds(1)
    disk.empty(victim.node.data)
    await ground.come_back(victim)


SMALL_DISK = {"small_disk": True, "ballast_floats": 50_000}
LIARS = {"liars": True, "ballast_floats": 0}
SHARING_LIARS = {**SHARED, "liars": True}
PACKING_LIARS = {**PACKED, "liars": True}

FAULTS_OF_DATA = (
    Fault("not a number", not_a_number, may_depose=False),
    Fault("huge numbers", huge_numbers, may_depose=False),
    Fault("another shape", another_shape, may_depose=False),
    Fault("damaged stream", damaged_stream, may_depose=False),
    Fault("contribution served wrong", served_wrong(CHECKED_IN), shape=LIARS),
    Fault("result served wrong", result_served_wrong, shape=LIARS),
    Fault("contribution to a shared merge served wrong", served_wrong(CHECKED_IN), shape=SHARING_LIARS),
    Fault("share of a merge served wrong", served_wrong(SHARING), shape=PACKING_LIARS),
    Fault("replayed requests", replayed_requests),
    Fault("disk full", disk_full, shape=SMALL_DISK, applies=disk.missing),
)
