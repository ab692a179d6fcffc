"""Nodes that lie about how large their parameters are: the header fixes it, and everybody has the header."""

import asyncio
import json

from tests.chaos.ground import BEFORE_COLLECTING, SHARED, SHARING, Fault, Ground, Inject, Moment
from tests.chaos.liar import TOLD
from tests.chaos.liar_of_sizes import ENDLESS, TOO_BIG
from tests.chaos.traffic import Pair

REFUSED = "bytes are announced for parameters that have"
NAMED_SIZE = "for parameters that have"  # in both: it was refused, or left out
SIZES = (TOO_BIG, -4, 4)


async def announced_first(ground: Ground) -> None:
    """In the first round nothing is agreed yet: whoever leads knows by its own parameters, and leaves the liar out."""
    liar = next(iter(ground.traffic.pairs.values()))
    liar.expected_exit = True  # until it is seen to go on
    ground.hits(f"{liar.name} in its first check-in")
    await ground.traffic.told(liar.node.lie)
    ground.went.rogue_digests.append(liar.node.lie.with_suffix(TOLD).read_text())
    later = ground.traffic.until(
        lambda state: liar.name in state.checked_in and state.round > 1, f"a second round of {liar.name}"
    )
    going_on = asyncio.create_task(later)
    await asyncio.wait({going_on, liar.sl.exited}, return_when=asyncio.FIRST_COMPLETED)
    if not liar.sl.exited.done():
        await going_on
        liar.expected_exit = False
        return
    going_on.cancel()
    # The first round went on without it, or it was left out by the next leader too.
    await ground.ends_badly(liar, NAMED_SIZE)
    await ground.come_back(liar)


async def announced(ground: Ground) -> None:
    """Later it is refused, and the node ends; the others go on."""
    liar, how = ground.somebody(), ground.dice.choice(SIZES)
    liar.expected_exit = True
    _tell(liar, "announced", how)
    ground.hits(f"{how} by {liar.name}")
    await ground.ends_badly(liar, REFUSED)
    await ground.traffic.rounds(1)
    await ground.come_back(liar)


async def published(ground: Ground) -> None:
    """A leader publishes a result of another size: it is refused and ends, and another one leads."""
    liar = await ground.caught(BEFORE_COLLECTING)
    liar.expected_exit = True
    _tell(liar, "published", TOO_BIG)
    liar.sl.thaw()
    await ground.traffic.told(liar.node.lie)
    ground.hits(liar.name)
    await ground.ends_badly(liar, REFUSED)
    await ground.traffic.rounds(1)
    await ground.come_back(liar)


def manifest(moment: Moment) -> Inject:
    """A manifest that is too long, too short, or has no end: no more of it is read than the size gives."""

    async def inject(ground: Ground) -> None:
        how = ground.dice.choice([ENDLESS, -4, 4, TOO_BIG])
        liar = await ground.caught(moment)
        _tell(liar, "manifest", how)
        liar.sl.thaw()
        ground.hits(f"{how} by {liar.name}")
        await ground.traffic.told(liar.node.lie)
        await ground.traffic.rounds(1)
        liar.node.lie.unlink()
        await ground.traffic.contributes(liar.name)

    return inject


def _tell(liar: Pair, kind: str, how: object) -> None:
    written = liar.node.lie.with_suffix(".next")
    written.write_text(json.dumps({kind: how}))
    written.rename(liar.node.lie)  # whole, or not there


LIARS = {"liars": True}
SHARING_LIARS = {**SHARED, "liars": True}
FOLLOWS = {"followers_only": 1}  # the first node: a leader that lies may leave out whom it likes

FAULTS_OF_SIZES = (
    Fault(
        "size announced in the first round",
        announced_first,
        shape={**LIARS, **FOLLOWS, "first_announces": 4},
        may_depose=False,
    ),
    Fault(
        "size announced in the first round, too big",
        announced_first,
        shape={**SHARING_LIARS, **FOLLOWS, "first_announces": TOO_BIG},
        may_depose=False,
    ),
    Fault("size announced later", announced, shape=LIARS),
    Fault("size published by a leader", published, shape=LIARS),
    Fault("size of a manifest", manifest(SHARING), shape=SHARING_LIARS),
)
