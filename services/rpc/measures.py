"""Loss and metric, as reports give them: a number, which is NaN or infinite where a training has gone astray, or None
for no value at all, as where there is no validation data.
"""

import math
from typing import Any, Literal

# What JSON has no number for, as protobuf writes it.
JsonNumber = float | Literal["NaN", "Infinity", "-Infinity"]


def measure(message: Any, name: str) -> float | None:
    """Of a message whose field of that name is optional."""
    value: float | None = getattr(message, name) if message.HasField(name) else None
    return value


def in_json(value: float) -> JsonNumber:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def measure_in_json(value: float | None) -> JsonNumber | None:
    return None if value is None else in_json(value)


def shown(value: JsonNumber | None, form: str) -> str:
    """For people: ``0.2500``, ``nan``, ``inf``, and ``-`` for no value."""
    return "-" if value is None else format(float(value), form)
