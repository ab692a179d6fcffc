"""The line between a leader and a merger of a shared merge: it breaks, or what comes on it is not so, or is nothing."""

import json
from collections.abc import Mapping
from typing import Any

from tests.chaos.ground import SHARED, Fault, Ground, Inject
from tests.chaos.liar_of_lines import (
    ACCUSES,
    BREAKS,
    FALSE_HASHES,
    LINE,
    ODD_ANSWERS,
    ODD_ORDERS,
    SILENT,
    UNUSABLE,
)
from tests.chaos.traffic import Pair


def line(*lies: str) -> Inject:
    """One node says what is not so, in every merge in which it follows; the others end each round without its word,
    and nobody is left out of any.
    """

    async def inject(ground: Ground) -> None:
        liar, lie = ground.somebody(), ground.dice.choice(lies)
        _tell(liar, lie)
        await ground.traffic.told(liar.node.lie)
        ground.hits(f"{liar.name} {lie}")
        await ground.traffic.rounds(2)
        liar.node.lie.unlink(missing_ok=True)
        await ground.traffic.contributes(liar.name)

    return inject


def odd(messages: Mapping[str, list[dict[str, Any]]]) -> Inject:
    """One message, once, in which something is not of its type, or makes no sense where it is said."""

    async def inject(ground: Ground) -> None:
        liar, kind = ground.somebody(), ground.dice.choice(sorted(messages))
        change = ground.dice.choice(messages[kind])
        _tell(liar, [kind, change])
        await ground.traffic.told(liar.node.lie)
        ground.hits(f"{kind} {change} by {liar.name}")
        await ground.traffic.rounds(1)
        await ground.traffic.contributes(liar.name)

    return inject


def _tell(liar: Pair, how: object) -> None:
    written = liar.node.lie.with_suffix(".next")
    written.write_text(json.dumps({LINE: how}))
    written.rename(liar.node.lie)  # whole, or not there


HARMLESS: dict[str, Any] = {"shape": {**SHARED, "liars": True}, "may_depose": False, "may_leave_out": False}

FAULTS_OF_LINES = (
    Fault("broken merge line after segments were served", line(BREAKS), **HARMLESS),
    Fault("silent merger", line(SILENT), **HARMLESS),
    Fault("false accusations", line(ACCUSES, UNUSABLE), **HARMLESS),
    Fault("distrusted hashes", line(FALSE_HASHES), **HARMLESS),
    Fault("odd messages on the merge line", odd(ODD_ANSWERS), **HARMLESS),
    Fault("odd orders on the merge line", odd(ODD_ORDERS), **HARMLESS),
)
