"""What a fault is, and what it has to work with: a training that runs, its world, and a moment of the protocol."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from benchmarks.log_traps import Trap
from tests.chaos.history import Injected
from tests.chaos.traffic import Pair, Stuck, Traffic
from tests.chaos.world import LEADER_TIMEOUT_S, LOST_AFTER_S, World

# A busy machine gets this long for what a timeout does not cover: one round, and a start where one is needed.
ONE_ROUND_S = 8.0

KILLED_WITHIN_S = 10.0


@dataclass(frozen=True)
class Moment:
    """A moment of the protocol, as a node's own log tells it."""

    name: str
    fields: Mapping[str, Any]


BEFORE_COLLECTING = Moment("before collecting", {"event": "leads the round"})
MID_MERGE = Moment("in the middle of the merge", {"stage": "merge"})  # alone, or shared out
WRITTEN = Moment("after writing, before anybody else holds it", {"event": "written"})
BEFORE_PUBLISHING = Moment("after writing, before publishing", {"event": "step", "state": "Merging", "on": "MergeDone"})
AFTER_PUBLISHING = Moment("after publishing", {"event": "step", "state": "Publishing", "on": "Published"})
SHARING = Moment("in the middle of its share", {"event": "merges a share"})
CHECKED_IN = Moment("after its check-in", {"event": "checked in"})
FETCHING = Moment("before fetching the result", {"event": "step", "state": "Awaiting", "to": "Fetching"})
TRAINING = Moment("while its program trains", {"event": "step", "state": "Training", "on": "ModelReported"})

SHARED = {"ballast_floats": 1_500_000, "followers_only": 0}  # a model that is large enough to be shared out
PACKED = {**SHARED, "compression": "lossless"}


@dataclass
class Ground:
    """What a fault works on. ``dice`` is seeded; ``went`` is filled in as the fault goes.

    ``last``: no other fault follows. ``healing``: what is still to be put right when the training is over.
    """

    world: World
    traffic: Traffic
    dice: Random
    went: Injected
    last: bool
    healing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def hits(self, what: str) -> None:
        """From now on recovery is measured."""
        self.went.t = time.monotonic()
        self.went.hit = what
        self.went.round = self.traffic.accepted

    async def caught(self, moment: Moment, *nodes: str) -> Pair:
        """The first node (of ``nodes``, if given) that comes to this moment; it stands still there."""
        trap = Trap(moment.name.replace("/", " "), moment.fields, self.traffic.accepted + 1, nodes)
        return await self.traffic.spring(trap)

    async def kill(self, pair: Pair) -> None:
        """The SL, as by the kernel; its program finds the channel closed and ends."""
        pair.expected_exit = True
        pair.sl.kill()
        await pair.sl.wait(KILLED_WITHIN_S)

    async def kill_program(self, pair: Pair) -> None:
        pair.expected_exit = True
        pair.ml.kill()
        await pair.ml.wait(KILLED_WITHIN_S)

    def somebody(self) -> Pair:
        """A node that is well."""
        return self.dice.choice(self.traffic.well)

    async def come_back(self, pair: Pair) -> None:
        """At once, after the others have gone on, or never, as far as minPeers allow it, also for the next fault."""
        traffic = self.traffic
        spare = sum(other is not pair for other in traffic.well) - traffic.shape.min_peers
        choices = ["at once", *(["later"] if spare >= 0 else []), *(["never"] if spare >= 1 else [])]
        choice = self.dice.choice(choices)
        self.went.hit += f", comes back {choice}"
        if choice == "never":
            return
        if choice == "later":
            await traffic.rounds(1)
        await traffic.restart(pair.name)
        await traffic.contributes(pair.name)

    async def ends_badly(self, pair: Pair, words: str) -> None:
        """A node must end by itself, with an error that says these words."""
        pair.expected_exit = True
        for process in (pair.sl, pair.ml):
            code = await process.wait(ONE_ROUND_S * 2)
            if not code:
                raise Stuck(f"{process.name} has not failed ({code}), and should have: {words}")
            if words not in (said := process.last_words()):
                self.traffic.note(f"{process.name} ended with '{said}', and not with '{words}'")


Inject = Callable[[Ground], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """``applies`` gives the reason why it cannot be done on this machine, or nothing.

    ``shape``: what it needs of a run's training; ``sns`` and ``apart`` (nodes in network namespaces): of the world.
    ``allowed_s``: how long until a round is accepted again. ``may_depose``: a leader may fall for it;
    ``may_leave_out``: somebody may be left out of a round.
    ``alone``: it takes so much that nothing else may fail in the same run. ``merges_alone``: its moment comes only
    where a leader merges alone, so with a model that is not shared out.
    """

    name: str
    inject: Inject
    allowed_s: float = max(LEADER_TIMEOUT_S, LOST_AFTER_S) + ONE_ROUND_S
    shape: Mapping[str, Any] = field(default_factory=dict)
    sns: int = 1
    apart: bool = False
    alone: bool = False
    merges_alone: bool = False
    may_depose: bool = True
    may_leave_out: bool = True
    applies: Callable[[], str] = lambda: ""
