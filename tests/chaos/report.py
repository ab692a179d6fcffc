"""What many runs come to: one JSON object, the last line."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.chaos.history import History

MOST_LINES = 8
LONGEST_LINE = 1000


def figures(histories: Sequence[tuple[History, list[str]]], seed: str, **more: Any) -> dict[str, Any]:
    """``histories``: each run with its violations."""
    injected = [fault for history, _ in histories for fault in history.faults if fault.hit]
    recoveries = [fault.recovery_s for fault in injected if fault.recovered_t]
    return {
        "runs": len(histories),
        "faults": dict(sorted(Counter(fault.kind for fault in injected).items())),
        "rounds": sum(event.kind == "RoundAccepted" for history, _ in histories for event in history.chain),
        "violations": sum(bool(found) for _, found in histories),
        "recovery_p50_s": round(statistics.median(recoveries), 2) if recoveries else None,
        "recovery_max_s": round(max(recoveries), 2) if recoveries else None,
        "seed": seed,
        **more,
    }


def line_of(number: int, history: History, found: Sequence[str]) -> str:
    """One run for people who watch."""
    rounds = sum(event.kind == "RoundAccepted" for event in history.chain)
    went = "; ".join(
        f"{fault.kind}: {fault.hit or 'did not hit'}"
        + (f", recovered after {fault.recovery_s:.1f} s" if fault.recovered_t else "")
        for fault in history.faults
    )
    shown = [text[:LONGEST_LINE] for text in found[:MOST_LINES]]
    if len(found) > MOST_LINES:
        shown.append(f"and {len(found) - MOST_LINES} more")
    return f"{number:4}  {history.seed}  {history.seconds:5.1f} s  {rounds:3} rounds  {went}" + "".join(
        f"\n      VIOLATION {text}" for text in shown
    )


def last_line(values: dict[str, Any]) -> str:
    return json.dumps(values)
