"""How every benchmark closes: one line of JSON with its figures and its goals."""

import json
import math
from collections.abc import Iterable
from typing import Any


def goal(value: float | None, limit: float) -> dict[str, Any]:
    """A figure that must not exceed ``limit``; not met where it could not be measured."""
    return {"value": value, "goal": limit, "met": value is not None and value <= limit}


def at_least(value: float | None, limit: float) -> dict[str, Any]:
    """A figure that must reach ``limit``; not met where it could not be measured."""
    return {"value": value, "goal": limit, "met": value is not None and value >= limit}


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of them do not exceed. Raises ValueError where there is none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("nothing was measured")
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def print_figures(figures: dict[str, Any], goals: dict[str, dict[str, Any]]) -> None:
    """The last line of a benchmark's output."""
    print(json.dumps({**figures, "goals": goals}), flush=True)
