"""Links that are cut without a word and healed again, and links that are slow but move."""

from tests.chaos import network
from tests.chaos.ground import (
    BEFORE_COLLECTING,
    BEFORE_PUBLISHING,
    CHECKED_IN,
    MID_MERGE,
    Fault,
    Ground,
    Inject,
    Moment,
)
from tests.chaos.traffic import Pair
from tests.chaos.world import LEADER_TIMEOUT_S, place_of_sn

SLOW_BYTES_PER_S = 1_000_000

# Until an SN notices a dead connection by itself: keep-alive after 5 s, and 5 s for its answer.
NOTICED_S = 10.0
ONE_ROUND_S = 8.0
CUT_OFF_SN_S = 3 * NOTICED_S


def leader_cut_off(moment: Moment) -> Inject:
    """Another one leads; then the link heals and the old leader finds itself a follower."""

    async def inject(ground: Ground) -> None:
        traffic = ground.traffic
        leader = await ground.caught(moment)
        merged = traffic.now.round
        await _cut(ground, leader)
        leader.sl.thaw()
        ground.hits(f"{leader.name} {moment.name}")
        await traffic.until(lambda seen: seen.round > merged or seen.leader not in {"", leader.name}, "another leader")
        if ground.dice.random() < 0.5:
            await traffic.rounds(1)
        await _heal(ground, leader)
        await traffic.contributes(leader.name)

    return inject


async def minority_cut_off(ground: Ground) -> None:
    """As many as the training can go on without; they come back and catch up."""
    traffic = ground.traffic
    for pair in traffic.well:  # else one that has just come could get the last result from those only that are cut off
        await traffic.contributes(pair.name)
    first = await ground.caught(CHECKED_IN)
    spare = len(traffic.well) - traffic.shape.min_peers
    others = [pair for pair in traffic.well if pair is not first]
    cut = [first, *others[: ground.dice.randint(0, spare - 1)]]
    for pair in cut:
        await _cut(ground, pair)
    first.sl.thaw()
    ground.hits(", ".join(pair.name for pair in cut))
    await traffic.rounds(ground.dice.randint(1, 2))
    for pair in cut:
        await _heal(ground, pair)
    for pair in cut:
        await traffic.contributes(pair.name)


async def slow_leader(ground: Ground) -> None:
    """1 MB/s, and its round takes several times the failure timeout: it moves, so nobody deposes it."""
    traffic = ground.traffic
    leader = await ground.caught(BEFORE_COLLECTING)
    await _network(ground).slow(_place(ground, leader), SLOW_BYTES_PER_S)
    merged = traffic.now.round
    leader.sl.thaw()
    ground.hits(leader.name)
    await traffic.until(lambda seen: seen.result is not None and seen.result[0] >= merged, f"round {merged}", 60.0)
    if traffic.history.seen[-1].t - ground.went.t < LEADER_TIMEOUT_S:
        traffic.note("the slow leader was not slow: the fault shows nothing")
    await _network(ground).restore(_place(ground, leader))
    await traffic.rounds(1)


async def slow_node(ground: Ground) -> None:
    """Nobody in particular, for some rounds: they take longer, and that is all."""
    pair = ground.somebody()
    await _network(ground).slow(_place(ground, pair), SLOW_BYTES_PER_S)
    ground.hits(pair.name)
    await ground.traffic.rounds(2, 60.0)
    await _network(ground).restore(_place(ground, pair))


def sn_cut_off(which: str) -> Inject:
    """One of three: the others go on, and so do its SLs through them. When it is back there is still one chain."""

    async def inject(ground: Ground) -> None:
        world, traffic = ground.world, ground.traffic
        sn = world.sns[0] if which == "the sentinel" else ground.dice.choice(world.sns[1:])
        place = place_of_sn(world.sns.index(sn))
        await _network(ground).cut(place)
        ground.healing.append(lambda: _network(ground).heal(place))
        ground.hits(sn)
        await traffic.rounds(2, CUT_OFF_SN_S)
        await _network(ground).heal(place)
        await traffic.rounds(1)

    return inject


def _network(ground: Ground) -> network.Network:
    assert ground.world.network is not None
    return ground.world.network


def _place(ground: Ground, pair: Pair) -> int:
    return list(ground.traffic.pairs).index(pair.name)


async def _cut(ground: Ground, pair: Pair) -> None:
    """Healed at the end, whatever happens."""
    await _network(ground).cut(_place(ground, pair))
    ground.healing.append(lambda: _heal(ground, pair))


async def _heal(ground: Ground, pair: Pair) -> None:
    await _network(ground).heal(_place(ground, pair))


def _fault(name: str, inject: Inject, **more: object) -> Fault:
    return Fault(name, inject, apart=True, applies=network.missing, **more)  # type: ignore[arg-type]


BIG = {"ballast_floats": 500_000, "nodes": 3, "min_peers": 2, "weights": (1, 2, 3), "followers_only": 0}

FAULTS_OF_THE_NETWORK = (
    *(
        _fault(f"leader cut off {moment.name}", leader_cut_off(moment), allowed_s=NOTICED_S + ONE_ROUND_S)
        for moment in (BEFORE_COLLECTING, MID_MERGE, BEFORE_PUBLISHING)
    ),
    _fault("minority cut off", minority_cut_off, allowed_s=NOTICED_S + ONE_ROUND_S),
    *(
        _fault(f"{name} cut off", sn_cut_off(which), sns=3, alone=True, allowed_s=CUT_OFF_SN_S)
        for name, which in (("sentinel", "the sentinel"), ("one SN of three", "another"))
    ),
    _fault("slow leader", slow_leader, shape=BIG, may_depose=False, allowed_s=60.0),
    _fault("slow node", slow_node, shape=BIG, may_depose=False, allowed_s=60.0),
)
