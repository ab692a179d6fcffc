"""A leader that publishes a result which no other node can have: without a second copy, no SN takes it."""

import json

from tests.chaos.ground import BEFORE_COLLECTING, SHARED, Fault, Ground
from tests.chaos.history import FalseResult
from tests.chaos.liar import TOLD
from tests.chaos.liar_of_results import MADE_UP, RESULT
from tests.chaos.traffic import Stuck


async def made_up(ground: Ground) -> None:
    """It is voted out, the round is merged under another leader, and the liar takes part again once it is honest."""
    liar = await ground.caught(BEFORE_COLLECTING)
    written = liar.node.lie.with_suffix(".next")
    written.write_text(json.dumps({RESULT: MADE_UP}))
    written.rename(liar.node.lie)  # whole, or not there
    liar.sl.thaw()
    await ground.traffic.told(liar.node.lie)
    ground.hits(liar.name)
    lie = FalseResult(**json.loads(liar.node.lie.with_suffix(TOLD).read_text()))
    ground.went.false_results.append(lie)
    after = await ground.traffic.until(
        lambda seen: (seen.round, seen.term) > (lie.round, lie.term), f"the end of the term of {liar.name}"
    )
    if after.result == (lie.round, lie.digest):
        raise Stuck(f"what {liar.name} has made up is the result of round {lie.round}")
    await ground.traffic.rounds(1)
    await ground.traffic.contributes(liar.name)


LIARS = {"liars": True, "ballast_floats": 0, "followers_only": 0}  # so that another one may lead

FAULTS_OF_RESULTS = (
    Fault("result that nobody holds", made_up, shape=LIARS, may_leave_out=False),
    Fault("result of a shared merge that nobody holds", made_up, shape={**SHARED, "liars": True}, may_leave_out=False),
)
