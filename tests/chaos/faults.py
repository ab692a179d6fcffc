"""The faults: what each is called, where it applies, and how it is done to a training that runs."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.chaos.history import Injected
from tests.chaos.traffic import Pair, Traffic
from tests.chaos.traps import Trap
from tests.chaos.world import LEADER_TIMEOUT_S, LOST_AFTER_S, World

# A busy machine gets this long for what a timeout does not cover: one round, and a start where one is needed.
ONE_ROUND_S = 8.0


@dataclass
class Ground:
    """What a fault works on. ``dice`` is seeded; ``went`` is filled in as the fault goes."""

    world: World
    traffic: Traffic
    dice: Random
    went: Injected

    def hits(self, what: str) -> None:
        """From now on recovery is measured."""
        self.went.t = time.monotonic()
        self.went.hit = what
        self.went.round = self.traffic.accepted

    def trap(self, moment: "Moment") -> Trap:
        return Trap(moment.name, moment.fields, from_round=self.traffic.accepted + 1)

    def kill(self, pair: Pair) -> None:
        """The SL, as by the kernel; its program finds the channel closed and ends."""
        pair.doomed = True
        pair.sl.kill()

    def other_than(self, *names: str) -> Pair:
        """A node that is well, and none of these."""
        return self.dice.choice([pair for name, pair in self.traffic.pairs.items() if pair.alive and name not in names])


Inject = Callable[[Ground], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """``applies`` gives the reason why it cannot be done in this world, or nothing. ``shape``: what it needs of a run.

    ``allowed_s``: how long until a round is accepted again. ``may_depose``: a leader may fall for it.
    """

    name: str
    inject: Inject
    allowed_s: float = max(LEADER_TIMEOUT_S, LOST_AFTER_S) + ONE_ROUND_S
    shape: Mapping[str, Any] = field(default_factory=dict)
    may_depose: bool = True
    applies: Callable[[World], str] = lambda _: ""


@dataclass(frozen=True)
class Moment:
    """A moment of the protocol, as a node's own log tells it."""

    name: str
    fields: Mapping[str, Any]


BEFORE_COLLECTING = Moment("before collecting", {"event": "leads the round"})
MID_MERGE = Moment("in the middle of the merge", {"event": "collected"})
BEFORE_PUBLISHING = Moment("after writing, before publishing", {"event": "step", "state": "Merging", "on": "Merged"})
AFTER_PUBLISHING = Moment("after publishing", {"event": "step", "state": "Publishing", "on": "Published"})
CHECKED_IN = Moment("after its check-in", {"event": "checked in"})
TRAINING = Moment("while its program trains", {"event": "step", "state": "Training", "on": "Reported"})
LEADING = (BEFORE_COLLECTING, MID_MERGE, BEFORE_PUBLISHING, AFTER_PUBLISHING)


def leader_killed(moment: Moment) -> Inject:
    """Gone at this very moment; comes back under its name, or does not."""

    async def inject(ground: Ground) -> None:
        leader = await ground.traffic.spring(ground.trap(moment))
        ground.kill(leader)
        await leader.sl.wait(5.0)
        ground.hits(f"{leader.name} {moment.name}")
        await _come_back(ground, leader)

    return inject


def leader_stopped(moment: Moment) -> Inject:
    """Stands still past its lease; another one leads; then it goes on with what it was about to do."""

    async def inject(ground: Ground) -> None:
        traffic = ground.traffic
        leader = await traffic.spring(ground.trap(moment))
        ground.hits(f"{leader.name} {moment.name}")
        round_ = traffic.accepted + 1
        await traffic.until(
            lambda seen: seen.round > round_ or (seen.leader not in {"", leader.name}), "another leader"
        )
        leader.sl.thaw()
        await traffic.rounds(1)
        await traffic.contributes(leader.name)

    return inject


async def follower_killed(ground: Ground) -> None:
    """A participant that has checked in, or is about to."""
    follower = await ground.traffic.spring(ground.trap(CHECKED_IN))
    ground.kill(follower)
    await follower.sl.wait(5.0)
    ground.hits(f"{follower.name} after its check-in")
    await _come_back(ground, follower)


async def program_killed_while_writing(ground: Ground) -> None:
    """Half a stream is in the pipe: the SL reads nothing meanwhile, so the program cannot have written more."""
    traffic = ground.traffic
    victim = await traffic.spring(ground.trap(TRAINING))
    await traffic.writes(victim.name)
    ground.hits(f"the program of {victim.name}")
    victim.doomed = True
    victim.ml.kill()
    await victim.ml.wait(5.0)
    victim.sl.thaw()
    await _come_back(ground, victim)


async def not_a_number(ground: Ground) -> None:
    """A node contributes what is no number: it is left out of the round and goes on from its result."""
    traffic = ground.traffic
    victim = ground.other_than()
    poison = ground.dice.choice(["nan", "inf"])
    (traffic.directory / f"{victim.name}.poison").write_text(poison)
    await traffic.until(lambda seen: victim.name in seen.left_out, f"{victim.name} left out")
    ground.hits(f"{poison} in the parameters of {victim.name}")
    await traffic.rounds(1)
    await traffic.contributes(victim.name)


async def _come_back(ground: Ground, pair: Pair) -> None:
    """At once, after the others have gone on, or never; where all are needed, at once."""
    traffic = ground.traffic
    others = sum(other.alive for other in traffic.pairs.values() if other is not pair)
    needed = others < traffic.shape.min_peers
    choice = "at once" if needed else ground.dice.choice(["at once", "later", "never"])
    ground.went.hit += f", comes back {choice}"
    if choice == "never":
        return
    if choice == "later":
        await traffic.rounds(1)
    await traffic.restart(pair.name)
    await traffic.contributes(pair.name)


FAULTS = {
    fault.name: fault
    for fault in (
        *(Fault(f"leader killed {moment.name}", leader_killed(moment)) for moment in LEADING),
        *(Fault(f"leader stopped {moment.name}", leader_stopped(moment)) for moment in LEADING[:3]),
        Fault("follower killed", follower_killed),
        Fault("program killed while writing", program_killed_while_writing, shape={"ballast_floats": 1_000_000}),
        Fault("not a number", not_a_number, may_depose=False),
    )
}
