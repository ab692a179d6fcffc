"""Nodes that die or stand still: leaders at every moment of a merge, followers, programs; and that come back."""

from tests.chaos.ground import (
    AFTER_PUBLISHING,
    BEFORE_COLLECTING,
    BEFORE_PUBLISHING,
    CHECKED_IN,
    FETCHING,
    MID_MERGE,
    PACKED,
    SHARED,
    SHARING,
    TRAINING,
    WRITTEN,
    Fault,
    Ground,
    Inject,
    Moment,
)

LEADING = (BEFORE_COLLECTING, MID_MERGE, WRITTEN, BEFORE_PUBLISHING, AFTER_PUBLISHING)


def leader_killed(moment: Moment) -> Inject:
    """Gone at this very moment."""

    async def inject(ground: Ground) -> None:
        leader = await ground.caught(moment)
        await ground.kill(leader)
        ground.hits(f"{leader.name} {moment.name}")
        await ground.come_back(leader)

    return inject


def leader_stopped(moment: Moment) -> Inject:
    """Stands still past its lease; another one leads; then it goes on with what it was about to do."""

    async def inject(ground: Ground) -> None:
        traffic = ground.traffic
        leader = await ground.caught(moment)
        merged = traffic.now.round
        ground.hits(f"{leader.name} {moment.name}")
        await traffic.until(lambda seen: seen.round > merged or seen.leader not in {"", leader.name}, "another leader")
        leader.sl.thaw()
        await traffic.rounds(1)
        await traffic.contributes(leader.name)

    return inject


def node_killed(moment: Moment) -> Inject:
    """Any node, at a moment of a follower's round."""

    async def inject(ground: Ground) -> None:
        pair = await ground.caught(moment)
        await ground.kill(pair)
        ground.hits(f"{pair.name} {moment.name}")
        await ground.come_back(pair)

    return inject


async def follower_stopped(ground: Ground) -> None:
    """It has checked in and serves nothing: a stalled socket for whoever leads. Then it goes on."""
    pair = await ground.caught(CHECKED_IN)
    ground.hits(f"{pair.name} after its check-in")
    await ground.traffic.rounds(1)
    pair.sl.thaw()
    await ground.traffic.contributes(pair.name)


async def merger_stopped(ground: Ground) -> None:
    """Its line stays open and nothing comes on it: others merge its segments. It gets the result when it goes on."""
    pair = await ground.caught(SHARING)
    ground.hits(f"{pair.name} {SHARING.name}")
    await ground.traffic.rounds(1)
    pair.sl.thaw()
    await ground.traffic.contributes(pair.name)


async def program_killed_while_writing(ground: Ground) -> None:
    """Half a stream is in the pipe: the SL reads nothing meanwhile, so the program cannot have written more."""
    victim = await ground.caught(TRAINING)
    await ground.traffic.writes(victim.name)
    await ground.kill_program(victim)
    ground.hits(f"the program of {victim.name}")
    victim.sl.thaw()
    await ground.come_back(victim)


async def program_killed_while_it_waits(ground: Ground) -> None:
    """A peer that leaves after its check-in: its SL tells the swarm and ends."""
    victim = await ground.caught(CHECKED_IN)
    await ground.kill_program(victim)
    ground.hits(f"the program of {victim.name}")
    victim.sl.thaw()
    await ground.come_back(victim)


async def program_stopped(ground: Ground) -> None:
    """A slow program: the others go on at quorum, and it joins again when it has caught up."""
    pair = ground.somebody()
    await pair.ml.freeze()
    ground.hits(f"the program of {pair.name}")
    await ground.traffic.rounds(2)
    pair.ml.thaw()
    await ground.traffic.contributes(pair.name)


async def node_leaves(ground: Ground) -> None:
    """Stopped in order by its operator. A program that has not come to it yet would wait for the next one."""
    await ground.traffic.all_take_part()
    pair = ground.somebody()
    pair.expected_exit = True
    await pair.sl.stop()
    ground.hits(f"{pair.name} was stopped")
    await ground.come_back(pair)


async def node_joins(ground: Ground) -> None:
    """A newcomer takes the last merged model and contributes to the next round."""
    number = len(ground.traffic.pairs)
    name = f"{ground.traffic.contract}-{number + 1}"
    ground.hits(f"{name} joined")
    await ground.traffic.add(name, number)
    await ground.traffic.contributes(name)


async def all_nodes_killed(ground: Ground) -> None:
    """Every SL and every program at once: the training goes on from the last merged model."""
    await ground.traffic.rounds(1)
    pairs = ground.traffic.well
    for pair in pairs:
        pair.expected_exit = True
        pair.sl.kill()
        pair.ml.kill()
    for pair in pairs:
        await ground.traffic.restart(pair.name)
    ground.hits("every SL and every program")


FAULTS_OF_NODES = (
    *(
        Fault(f"leader killed {moment.name}", leader_killed(moment), merges_alone=moment is WRITTEN)
        for moment in LEADING
    ),
    *(
        Fault(f"leader stopped {moment.name}", leader_stopped(moment), merges_alone=moment is WRITTEN)
        for moment in LEADING[:-1]
    ),
    *(Fault(f"node killed {moment.name}", node_killed(moment)) for moment in (CHECKED_IN, FETCHING, TRAINING)),
    Fault("follower stopped", follower_stopped),
    Fault(f"merger killed {SHARING.name}", node_killed(SHARING), shape=PACKED),
    Fault(f"merger stopped {SHARING.name}", merger_stopped, shape=SHARED),
    Fault("program killed while writing", program_killed_while_writing, shape={"ballast_floats": 1_000_000}),
    Fault("program killed while it waits", program_killed_while_it_waits),
    Fault("program stopped", program_stopped, may_depose=False),
    Fault("node leaves", node_leaves),
    Fault("node joins", node_joins, may_depose=False),
    Fault("all nodes killed", all_nodes_killed),
)
